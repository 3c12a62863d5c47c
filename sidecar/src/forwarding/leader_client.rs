//! Forwards the request of one client to the leader, or to the upstream of an agent.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gateway_queue_core::leadership::state::Leader;
use gateway_queue_core::protocol::peer::Question;
use gateway_queue_core::protocol::refusal::Refusal;
use gateway_queue_core::protocol::request::Parameters;
use gateway_queue_core::protocol::{GRANT, USER_AGENT};
use gateway_queue_telemetry::chain;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::debug;

use crate::clock::boot_time;
use crate::clock::stall_detector::StallDetector;
use crate::forwarding::destination::Destination;
use crate::queue::messages::Permit;
use crate::tcp::{KEEPALIVE, LOST_AFTER};

/// The time limit of a connection between two pods of a cluster.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The time limit for resolving a name. The next attempt is sooner than that of the resolver.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// How many names are resolved at a time. A lookup takes a thread until its end, also if nothing
/// waits for it any more.
static LOOKUPS: Semaphore = Semaphore::const_new(4);

/// No grant, refusal or limits are longer.
const MAX_BODY_BYTES: usize = 4096;

type BoxError = Box<dyn Error + Send + Sync>;

/// The response to a forwarded request.
#[derive(Debug)]
pub enum Response {
    /// The grant.
    Granted(Permit),
    /// No grant within the time that the client waits.
    Refused(Refusal),
    /// The leader holds as many forwarded requests as it may: retry.
    Busy,
    /// No usable response, with the cause: the other process is no longer the leader, is not a
    /// queue, or is gone, or this process was suspended while the response was in its socket.
    None(String),
}

/// Forwards a request whose client has waited for `age`. If the future is dropped, the other
/// process notices that the client has disconnected.
pub async fn forward(
    destination: &Destination,
    request: &Parameters,
    age: Duration,
    stall_detector: &Arc<StallDetector>,
) -> Response {
    let held = stall_detector.hold();
    let (authority, target) = (destination.authority(), destination.target(request, age));
    let exchanged = tokio::select! {
        exchanged = exchange(&authority, &target) => exchanged,
        // A grant that arrives now may be old.
        () = held.stalled() => Err("this process was suspended".into()),
    };
    let (status, body) = match exchanged {
        Ok(answer) => answer,
        Err(error) => {
            let error = chain(&*error);
            debug!(destination = authority, error, "forwarded request failed");
            return Response::None(error);
        }
    };
    let is_leader = matches!(destination, Destination::Leader(_));
    match status {
        StatusCode::OK if body == GRANT && held.is_fresh(boot_time::now()) => {
            return Response::Granted(Permit::relayed(held));
        }
        StatusCode::NO_CONTENT if is_leader => return Response::Busy,
        // A request without `wait` receives nothing but a grant.
        StatusCode::TOO_MANY_REQUESTS if request.wait.is_some() => {
            if let Some(refusal) = Refusal::parse(&body) {
                return Response::Refused(refusal);
            }
        }
        _ => {}
    }
    Response::None(format!("unexpected response, with status {status}"))
}

/// Returns whether the leader responds on its peer port. A connection alone proves nothing: a
/// proxy may have accepted it.
pub async fn probe(leader: &Leader, limit: Duration) -> bool {
    let target = Question::Probe.target(&leader.holder);
    is_taken(&leader.address.to_string(), &target, limit).await
}

/// Passes a report on. Returns whether the other process has taken it.
pub async fn report(destination: &Destination, report: &Parameters, limit: Duration) -> bool {
    let target = destination.target(report, Duration::ZERO);
    is_taken(&destination.authority(), &target, limit).await
}

/// Returns whether the other process responds with 204 in time.
async fn is_taken(authority: &str, target: &str, limit: Duration) -> bool {
    let exchanged = timeout(limit, exchange(authority, target)).await;
    matches!(exchanged, Ok(Ok((StatusCode::NO_CONTENT, _))))
}

/// Sends a request on a connection of its own and without a proxy, because its end is how
/// the other process notices that the client has disconnected.
pub(crate) async fn exchange(
    authority: &str,
    target: &str,
) -> Result<(StatusCode, Bytes), BoxError> {
    let stream = connect(authority).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(target)
        .header(header::HOST, authority)
        .header(header::USER_AGENT, USER_AGENT)
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

/// Connects to `host:port`, at the first of its addresses that accepts.
async fn connect(authority: &str) -> io::Result<TcpStream> {
    let mut connected = Err(io::Error::other("the name has no address"));
    for address in addresses(authority).await? {
        connected = connect_to(address).await;
        if connected.is_ok() {
            break;
        }
    }
    connected
}

async fn addresses(authority: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = authority.parse() {
        return Ok(vec![address]);
    }
    let authority = authority.to_owned();
    let lookup = async {
        let permit = LOOKUPS.acquire().await;
        // A task of its own keeps the permit as long as the thread runs.
        let lookup = tokio::spawn(async move {
            let _permit = permit;
            Ok::<Vec<_>, io::Error>(lookup_host(authority).await?.collect())
        });
        lookup.await?
    };
    timeout(LOOKUP_TIMEOUT, lookup).await?
}

async fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
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
        let address = listener.local_addr().unwrap();
        let stream = connect(&address.to_string()).await.unwrap();
        let socket = SockRef::from(&stream);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(LOST_AFTER));
        let probes =
            socket.tcp_keepalive_interval().unwrap() * socket.tcp_keepalive_retries().unwrap();
        assert_eq!(socket.tcp_keepalive_time().unwrap() + probes, LOST_AFTER);
    }

    #[tokio::test]
    async fn a_name_is_resolved_and_each_of_its_addresses_is_tried() {
        // Both families are addresses of localhost on most machines; one of them refuses.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(connect(&format!("localhost:{port}")).await.is_ok());
        assert!(connect("no-such-host.invalid:80").await.is_err());
    }
}
