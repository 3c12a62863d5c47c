//! One question of this pod to the pod that leads, for one client.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gateway_queue_core::leadership::state::Leader;
use gateway_queue_core::protocol::GRANT;
use gateway_queue_core::protocol::refusal::Refusal;
use gateway_queue_core::protocol::request::{self, Hop};
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
use crate::tcp::{KEEPALIVE, VANISHED_AFTER};

/// Pods of one cluster reach each other faster, or not at all.
const CONNECT: Duration = Duration::from_secs(1);

/// Neither a grant nor a refusal is longer.
const MOST_BODY: usize = 1024;

type BoxError = Box<dyn Error + Send + Sync>;

/// What the leader said.
#[derive(Debug)]
pub enum Said {
    /// It is the shard's turn.
    Granted(Permit),
    /// Not in the time that the client wants to wait.
    Refused(Refusal),
    /// It leads, and holds as many forwarded requests as it may: try again.
    Busy,
    /// Nothing that counts: it does not lead any more, it is gone, or this
    /// process was frozen while the answer lay in its socket.
    Nothing,
}

/// Asks the leader at `address`. Dropped, the leader sees that the client is
/// gone.
pub async fn ask(address: SocketAddr, hop: &Hop, beat: &Arc<StallDetector>) -> Said {
    let held = beat.hold();
    let target = format!("/?{}", hop.query());
    let exchanged = tokio::select! {
        exchanged = exchange(address, &target) => exchanged,
        // Whatever comes now may be old: ask again.
        () = held.gap() => Err("this process was suspended".into()),
    };
    let (status, body) = match exchanged {
        Ok(answer) => answer,
        Err(error) => {
            debug!(leader = %address, error = chain(&*error), "forwarded request failed");
            return Said::Nothing;
        }
    };
    match status {
        StatusCode::OK if body == GRANT && held.is_fresh(boot_time::now()) => {
            Said::Granted(Permit::relayed(held))
        }
        StatusCode::NO_CONTENT => Said::Busy,
        // Who did not opt in is answered with nothing but a grant.
        StatusCode::TOO_MANY_REQUESTS if hop.wait.is_some() => {
            Refusal::parse(&body).map_or(Said::Nothing, Said::Refused)
        }
        _ => Said::Nothing,
    }
}

/// Whether the leader answers on its peer port. A connection alone proves nothing: a proxy may
/// accept it and come no further.
pub async fn probe(leader: &Leader, patience: Duration) -> bool {
    let target = request::probe(&leader.holder);
    let exchanged = timeout(patience, exchange(leader.address, &target)).await;
    matches!(exchanged, Ok(Ok((StatusCode::NO_CONTENT, _))))
}

/// Never by a proxy, and never on a connection that somebody else uses: its
/// end is how the leader knows that the client is gone.
async fn exchange(address: SocketAddr, target: &str) -> Result<(StatusCode, Bytes), BoxError> {
    let stream = connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(target)
        .header(HOST, address.to_string())
        .body(Empty::<Bytes>::new())?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MOST_BODY);
        Ok((status, body.collect().await?.to_bytes()))
    };
    tokio::pin!(connection);
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => return answer,
        _ = &mut connection => {}
    }
    // All that came was handed over before the connection ended.
    answer.await
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = timeout(CONNECT, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    // Keepalive sees a leader that vanishes while it is silent; this one that does
    // so before it has acknowledged the request.
    socket.set_tcp_user_timeout(Some(VANISHED_AFTER))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_leader_that_acknowledges_nothing_is_given_up_like_one_that_is_silent() {
        let listener = TcpListener::bind("[::1]:0").await.unwrap();
        let stream = connect(listener.local_addr().unwrap()).await.unwrap();
        let socket = SockRef::from(&stream);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(VANISHED_AFTER));
        let probes =
            socket.tcp_keepalive_interval().unwrap() * socket.tcp_keepalive_retries().unwrap();
        assert_eq!(
            socket.tcp_keepalive_time().unwrap() + probes,
            VANISHED_AFTER
        );
    }
}
