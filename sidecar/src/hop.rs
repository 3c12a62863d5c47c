//! One question of this pod to the pod that leads, for one client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::beat::Beat;
use crate::clock;
use crate::gate::KEEPALIVE;
use crate::http::GRANT;
use crate::permit::Permit;
use crate::query::Hop;
use crate::refusal::Refusal;

/// Pods of one cluster reach each other faster, or not at all.
const CONNECT: Duration = Duration::from_secs(1);

/// Neither a grant nor a refusal is longer.
const MOST_BODY: usize = 1024;

/// What the leader said.
#[derive(Debug)]
pub enum Said {
    /// It is the shard's turn.
    Granted(Permit),
    /// Not in the time that the client wants to wait.
    Refused(Refusal),
    /// Nothing that counts: it does not lead any more, it is gone, or this
    /// process was frozen while the answer lay in its socket.
    Nothing,
}

/// Asks the leader at `address`. Dropped, the leader sees that the client is
/// gone.
pub async fn ask(address: SocketAddr, hop: &Hop, beat: &Arc<Beat>) -> Said {
    let held = beat.hold();
    let exchanged = tokio::select! {
        exchanged = exchange(address, hop) => exchanged,
        // Whatever comes now may be old: ask again.
        () = held.gap() => None,
    };
    let Some((status, body)) = exchanged else {
        return Said::Nothing;
    };
    match status {
        StatusCode::OK if body == GRANT && held.is_fresh(clock::now()) => {
            Said::Granted(Permit::relayed(held))
        }
        // Who did not opt in is answered with nothing but a grant.
        StatusCode::TOO_MANY_REQUESTS if hop.wait.is_some() => {
            Refusal::parse(&body).map_or(Said::Nothing, Said::Refused)
        }
        _ => Said::Nothing,
    }
}

/// Never by a proxy, and never on a connection that somebody else uses: its
/// end is how the leader knows that the client is gone.
async fn exchange(address: SocketAddr, hop: &Hop) -> Option<(StatusCode, Bytes)> {
    let stream = timeout(CONNECT, TcpStream::connect(address))
        .await
        .ok()?
        .ok()?;
    stream.set_nodelay(true).ok()?;
    SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE).ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let request = Request::get(format!("/?{}", hop.query()))
        .header(HOST, address.to_string())
        .body(Empty::<Bytes>::new())
        .ok()?;
    let answer = async {
        let response = sender.send_request(request).await.ok()?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MOST_BODY);
        Some((status, body.collect().await.ok()?.to_bytes()))
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
