//! Forwards the request of one client to the leader.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gateway_queue_core::leadership::state::Leader;
use gateway_queue_core::protocol::GRANT;
use gateway_queue_core::protocol::refusal::Refusal;
use gateway_queue_core::protocol::request::{self, ForwardedReport, ForwardedRequest};
use gateway_queue_telemetry::chain;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::debug;

use crate::clock::boot_time;
use crate::clock::stall_detector::StallDetector;
use crate::queue::messages::Permit;
use crate::tcp::{KEEPALIVE, LOST_AFTER};

/// The time limit of a connection between two pods of a cluster.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Neither a grant nor a refusal is longer.
const MAX_BODY_BYTES: usize = 1024;

type BoxError = Box<dyn Error + Send + Sync>;

/// The response of the leader.
#[derive(Debug)]
pub enum Response {
    /// The grant.
    Granted(Permit),
    /// No grant within the time that the client waits.
    Refused(Refusal),
    /// The leader holds as many forwarded requests as it may: retry.
    Busy,
    /// No usable response: the other pod is no longer the leader or is gone, or this process
    /// was suspended while the response was in its socket.
    None,
}

/// Forwards a request to the leader at `address`. If the future is dropped, the leader
/// notices that the client has disconnected.
pub async fn forward(
    address: SocketAddr,
    request: &ForwardedRequest,
    stall_detector: &Arc<StallDetector>,
) -> Response {
    let held = stall_detector.hold();
    let target = format!("/?{}", request.query());
    let exchanged = tokio::select! {
        exchanged = exchange(address, &target) => exchanged,
        // A grant that arrives now may be old.
        () = held.stalled() => Err("this process was suspended".into()),
    };
    let (status, body) = match exchanged {
        Ok(answer) => answer,
        Err(error) => {
            debug!(leader = %address, error = chain(&*error), "forwarded request failed");
            return Response::None;
        }
    };
    match status {
        StatusCode::OK if body == GRANT && held.is_fresh(boot_time::now()) => {
            Response::Granted(Permit::relayed(held))
        }
        StatusCode::NO_CONTENT => Response::Busy,
        // A client without `wait` receives nothing but a grant.
        StatusCode::TOO_MANY_REQUESTS if request.wait.is_some() => {
            Refusal::parse(&body).map_or(Response::None, Response::Refused)
        }
        _ => Response::None,
    }
}

/// Returns whether the leader responds on its peer port. A connection alone proves nothing: a
/// proxy may have accepted it.
pub async fn probe(leader: &Leader, limit: Duration) -> bool {
    is_taken(leader.address, &request::probe(&leader.holder), limit).await
}

/// Passes a report on to the leader at `address`. Returns whether the leader has taken it.
pub async fn report(address: SocketAddr, report: &ForwardedReport, limit: Duration) -> bool {
    is_taken(address, &format!("/?{}", report.query()), limit).await
}

/// Returns whether the leader responds with 204 in time.
async fn is_taken(address: SocketAddr, target: &str, limit: Duration) -> bool {
    let exchanged = timeout(limit, exchange(address, target)).await;
    matches!(exchanged, Ok(Ok((StatusCode::NO_CONTENT, _))))
}

/// Sends a request on a connection of its own and without a proxy, because its end is how
/// the leader notices that the client has disconnected.
async fn exchange(address: SocketAddr, target: &str) -> Result<(StatusCode, Bytes), BoxError> {
    let stream = connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(target)
        .header(HOST, address.to_string())
        .body(Empty::<Bytes>::new())?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY_BYTES);
        Ok((status, body.collect().await?.to_bytes()))
    };
    tokio::pin!(connection);
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => return answer,
        _ = &mut connection => {}
    }
    // The response may have been received just before the connection ended.
    answer.await
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    // Keepalive detects a leader that is lost while it is silent; this detects one that is
    // lost before it has acknowledged the request.
    socket.set_tcp_user_timeout(Some(LOST_AFTER))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_leader_that_acknowledges_nothing_is_given_up_as_soon_as_a_silent_one() {
        let listener = TcpListener::bind("[::1]:0").await.unwrap();
        let stream = connect(listener.local_addr().unwrap()).await.unwrap();
        let socket = SockRef::from(&stream);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(LOST_AFTER));
        let probes =
            socket.tcp_keepalive_interval().unwrap() * socket.tcp_keepalive_retries().unwrap();
        assert_eq!(socket.tcp_keepalive_time().unwrap() + probes, LOST_AFTER);
    }
}
