use std::future::poll_fn;
use std::sync::Arc;

use gateway_queue_core::pacing::pacer::{Grant, WaiterId};
use gateway_queue_core::time::Moment;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use super::*;
use crate::clock::stall_detector::StallDetector;
use crate::queue::messages::Event;
use crate::tcp::KEEPALIVE;

const GRANT: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

/// Returns a socket and its client.
async fn pair() -> (Socket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await;
    let (server, _) = listener.accept().await.unwrap();
    SockRef::from(&server)
        .set_tcp_keepalive(&KEEPALIVE)
        .unwrap();
    let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let socket = Socket::new(server, permit).unwrap();
    // A socket is known to be writable once the runtime has seen its first event.
    socket.stream.writable().await.unwrap();
    (socket, client.unwrap())
}

/// Returns a permit that is valid before `until`, and its reports.
pub(crate) fn permit(until: Moment) -> (Permit, UnboundedReceiver<Event>) {
    let (events, reports) = unbounded_channel();
    let grant = Grant {
        waiter: WaiterId(7),
        shard: 0,
        bucket: 0,
        arrived: Moment::ZERO,
        allowed: Moment::ZERO,
    };
    (Permit::own(grant, until, events), reports)
}

pub(crate) const FOR_EVER: Moment = Moment::from_nanos(u64::MAX);

/// Whether a grant must be acknowledged within a second. Then there is no keepalive.
pub(crate) fn awaits_acknowledgement(socket: &Socket) -> bool {
    let socket = SockRef::from(&socket.stream);
    let limit = socket.tcp_user_timeout().unwrap();
    assert!(limit.is_none_or(|limit| limit == ACKNOWLEDGE_TIMEOUT));
    assert_eq!(socket.keepalive().unwrap(), limit.is_none());
    limit.is_some()
}

async fn is_unwritten(mut reports: UnboundedReceiver<Event>) -> bool {
    matches!(reports.recv().await, Some(Event::Unwritten(WaiterId(7))))
}

#[tokio::test]
async fn a_grant_is_written_and_reported_with_its_time() {
    let (mut socket, mut client) = pair().await;
    let (permit, mut reports) = permit(FOR_EVER);
    let before = boot_time::now();
    socket.write_grant(permit, GRANT).unwrap();
    let Some(Event::Written { at, .. }) = reports.recv().await else {
        panic!("not written");
    };
    assert!(at >= before && at <= boot_time::now());
    drop(socket);
    let mut received = Vec::new();
    client.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, GRANT);
}

#[tokio::test]
async fn a_disconnected_client_gets_no_grant_even_with_unread_data() {
    for unread in [&b""[..], b"GET / HTTP/1.1\r\n"] {
        let (mut socket, mut client) = pair().await;
        let (permit, reports) = permit(FOR_EVER);
        client.write_all(unread).await.unwrap();
        drop(client);
        socket.write_grant(permit, GRANT).unwrap_err();
        assert!(is_unwritten(reports).await);
    }
}

#[tokio::test]
async fn a_grant_is_not_written_after_the_right_to_grant_has_ended() {
    let (mut socket, _client) = pair().await;
    let (permit, reports) = permit(boot_time::now());
    socket.write_grant(permit, GRANT).unwrap_err();
    assert!(is_unwritten(reports).await);
}

#[tokio::test]
async fn a_relayed_grant_is_not_written_after_a_stall() {
    let detector = Arc::new(StallDetector::new(Duration::ZERO));
    let (mut socket, _client) = pair().await;
    let relayed = || Permit::relayed(detector.hold());
    socket.write_grant(relayed(), GRANT).unwrap();
    let stale = relayed();
    detector.check(boot_time::now() + Duration::from_secs(1));
    socket.write_grant(stale, GRANT).unwrap_err();
}

/// A client that does not read receives a part of no grant.
#[tokio::test]
async fn a_grant_that_the_kernel_does_not_accept_is_reported_as_unwritten() {
    let (mut socket, _client) = pair().await;
    let is_full = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
    while !socket.write(&[b'x'; 4096]).is_err_and(is_full) {}
    let (permit, reports) = permit(FOR_EVER);
    socket.write_grant(permit, GRANT).unwrap_err();
    assert!(is_unwritten(reports).await);
}

#[tokio::test(start_paused = true)]
async fn a_grant_must_be_acknowledged_within_a_second_and_the_limit_ends_then() {
    let (mut socket, _client) = pair().await;
    let (permit, _reports) = permit(FOR_EVER);
    socket.write_grant(permit, GRANT).unwrap();
    assert!(awaits_acknowledgement(&socket));
    let waiting = poll_fn(|cx| {
        socket.poll_lift(cx);
        socket.poll_read(cx, 1, <[u8]>::len)
    });
    let waited = timeout(ACKNOWLEDGE_TIMEOUT * 3, waiting).await;
    assert!(waited.is_err(), "closed");
    assert!(!awaits_acknowledgement(&socket));
}
