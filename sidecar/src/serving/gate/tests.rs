use gateway_queue_core::pacing::pacer::{Grant, WaiterId};
use gateway_queue_core::time::Moment;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, timeout};

use super::*;
use crate::clock::stall_detector::StallDetector;
use crate::queue::messages::Event;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
const GRANT: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

async fn pair() -> (Gate, TcpStream) {
    pair_of(Arc::default()).await
}

async fn pair_of(crowded: Arc<Notify>) -> (Gate, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await;
    let (server, _) = listener.accept().await.unwrap();
    let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    (Gate::new(server, permit, crowded).unwrap(), client.unwrap())
}

/// A permit that is valid before `until`, and its reports.
fn permit(until: Moment) -> (Permit, UnboundedReceiver<Event>) {
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

/// A gate that is open for one grant.
async fn authorized() -> (Gate, TcpStream, UnboundedReceiver<Event>) {
    let (gate, client) = pair().await;
    let (permit, reports) = permit(Moment::from_nanos(u64::MAX));
    gate.authorize(Pass::Grant(permit), 0);
    (gate, client, reports)
}

/// Everything that was written before the gate is dropped.
async fn received(gate: Gate, mut client: TcpStream) -> Vec<u8> {
    drop(gate);
    let mut received = Vec::new();
    client.read_to_end(&mut received).await.unwrap();
    received
}

async fn is_unwritten(mut reports: UnboundedReceiver<Event>) -> bool {
    matches!(reports.recv().await, Some(Event::Unwritten(WaiterId(7))))
}

async fn write(gate: &mut Gate, bytes: &[u8]) -> io::Result<usize> {
    poll_fn(|cx| Pin::new(&mut *gate).poll_write(cx, bytes)).await
}

#[tokio::test]
async fn a_grant_is_written_once_and_reported_with_its_time() {
    let (mut gate, client, mut reports) = authorized().await;
    let before = boot_time::now();
    assert_eq!(write(&mut gate, GRANT).await.unwrap(), GRANT.len());
    let Some(Event::Written { at, .. }) = reports.recv().await else {
        panic!("not written");
    };
    assert!(at >= before && at <= boot_time::now());
    write(&mut gate, GRANT).await.unwrap_err();
    assert_eq!(received(gate, client).await, GRANT);
}

/// All that hyper may write for one request: with or without `100 Continue`.
#[tokio::test]
async fn only_the_grant_is_sent_however_the_writes_are_split() {
    let with_continue = [CONTINUE, GRANT].concat();
    for written in [GRANT, &with_continue] {
        for first in 0..=written.len() {
            for second in [0, 1, 7, written.len()] {
                let second = (first + second).min(written.len());
                let writes = [
                    &written[..first],
                    &written[first..second],
                    &written[second..],
                ];
                let (mut gate, client, mut reports) = authorized().await;
                for bytes in writes.into_iter().filter(|bytes| !bytes.is_empty()) {
                    let accepted = write(&mut gate, bytes).await;
                    assert_eq!(accepted.ok(), Some(bytes.len()), "{writes:?}");
                }
                assert!(matches!(reports.recv().await, Some(Event::Written { .. })));
                assert_eq!(received(gate, client).await, GRANT, "{writes:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_sends_its_body_before_100_continue_is_granted() {
    let (gate, mut client) = pair().await;
    let handler = gate.clone();
    let (permit, mut reports) = permit(Moment::from_nanos(u64::MAX));
    let permit = Mutex::new(Some(permit));
    // The body has been received and the grant is available: hyper has `100 Continue` and
    // the grant in one buffer.
    let service = service_fn(move |request: Request<Incoming>| {
        let handler = handler.clone();
        let permit = permit.lock().unwrap().take().unwrap();
        async move {
            request.into_body().collect().await?;
            handler.authorize(Pass::Grant(permit), 3);
            Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from_static(b"yes"))))
        }
    });
    let request = b"POST / HTTP/1.1\r\nhost: q\r\nexpect: 100-continue\r\n\
        connection: close\r\ncontent-length: 1\r\n\r\nx";
    client.write_all(request).await.unwrap();
    http1::Builder::new()
        .serve_connection(gate, service)
        .await
        .unwrap();
    assert!(matches!(reports.recv().await, Some(Event::Written { .. })));
    let mut received = String::new();
    client.read_to_string(&mut received).await.unwrap();
    assert!(received.starts_with("HTTP/1.1 200 OK\r\n"), "{received}");
    assert!(received.ends_with("\r\n\r\nyes"), "{received}");
}

#[tokio::test]
async fn a_disconnected_client_gets_no_grant_even_with_unread_data() {
    for unread in [&b""[..], b"GET / HTTP/1.1\r\n"] {
        let (mut gate, mut client, reports) = authorized().await;
        client.write_all(unread).await.unwrap();
        drop(client);
        write(&mut gate, GRANT).await.unwrap_err();
        assert!(is_unwritten(reports).await);
    }
}

#[tokio::test]
async fn a_grant_is_not_written_after_the_right_to_grant_has_ended() {
    let (mut gate, _client) = pair().await;
    let (permit, reports) = permit(boot_time::now());
    gate.authorize(Pass::Grant(permit), 0);
    write(&mut gate, GRANT).await.unwrap_err();
    assert!(is_unwritten(reports).await);
}

#[tokio::test]
async fn a_relayed_grant_is_not_written_after_a_stall() {
    let detector = Arc::new(StallDetector::new(Duration::ZERO));
    let (mut gate, _client) = pair().await;
    gate.authorize(Pass::Grant(Permit::relayed(detector.hold())), 0);
    write(&mut gate, GRANT).await.unwrap();
    gate.authorize(Pass::Grant(Permit::relayed(detector.hold())), 0);
    detector.check(boot_time::now() + Duration::from_secs(1));
    write(&mut gate, GRANT).await.unwrap_err();
}

#[tokio::test]
async fn each_authorization_is_for_one_kind_of_response() {
    let bad = b"HTTP/1.1 400 Bad Request\r\n\r\n";
    let late = b"HTTP/1.0 429 Too Many Requests\r\n\r\n";
    let (mut gate, _client, reports) = authorized().await;
    write(&mut gate, bad).await.unwrap_err();
    assert!(is_unwritten(reports).await);
    for (response, authorized) in [(&bad[..], true), (&late[..], true), (GRANT, false)] {
        gate.authorize(Pass::Refusal, 0);
        assert_eq!(write(&mut gate, response).await.is_ok(), authorized);
        write(&mut gate, response).await.unwrap_err();
    }
}

#[tokio::test]
async fn data_that_was_read_ahead_is_read_first() {
    let (mut gate, mut client) = pair().await;
    client.write_all(b"ahead").await.unwrap();
    let gone = timeout(Duration::from_millis(50), gate.disconnected()).await;
    assert!(gone.is_err());
    client.write_all(b", rest").await.unwrap();
    let mut received = Vec::new();
    while received.len() < 11 {
        let mut buffer = [0; 4];
        let mut buffer = hyper::rt::ReadBuf::new(&mut buffer);
        poll_fn(|cx| Pin::new(&mut gate).poll_read(cx, buffer.unfilled()))
            .await
            .unwrap();
        received.extend_from_slice(buffer.filled());
    }
    assert_eq!(received, b"ahead, rest");
}

#[tokio::test]
async fn a_client_that_keeps_sending_while_it_waits_is_disconnected() {
    let (gate, mut client) = pair().await;
    let flood = tokio::spawn(async move { while client.write_all(&[b'x'; 4096]).await.is_ok() {} });
    gate.disconnected().await;
    drop(gate);
    flood.await.unwrap();
}

async fn read(gate: &mut Gate) -> io::Result<usize> {
    let mut buffer = [0; 64];
    let mut buffer = hyper::rt::ReadBuf::new(&mut buffer);
    poll_fn(|cx| Pin::new(&mut *gate).poll_read(cx, buffer.unfilled())).await?;
    Ok(buffer.filled().len())
}

/// Reads until the gate closes, and returns after how long.
async fn closed_after(gate: &mut Gate) -> Duration {
    let start = Instant::now();
    let error = read(gate).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    start.elapsed()
}

async fn refused(gate: &mut Gate) {
    gate.request_began();
    gate.authorize(Pass::Refusal, 0);
    let refusal = b"HTTP/1.1 429 Too Many Requests\r\n\r\n";
    write(gate, refusal).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_head_may_take_30_s_and_a_connection_may_be_idle_for_two_minutes() {
    let near = |took: Duration, seconds| took.abs_diff(Duration::from_secs(seconds)).as_secs() < 1;
    let (mut gate, _client) = pair().await;
    let took = closed_after(&mut gate).await;
    assert!(near(took, 30), "{took:?}");

    let (mut gate, mut client) = pair().await;
    refused(&mut gate).await;
    let took = closed_after(&mut gate).await;
    assert!(near(took, 120), "{took:?}");

    // The first byte of the next request is not the complete head.
    refused(&mut gate).await;
    client.write_all(b"G").await.unwrap();
    assert_eq!(read(&mut gate).await.unwrap(), 1);
    let took = closed_after(&mut gate).await;
    assert!(near(took, 30), "{took:?}");

    // While a request waits, the client has no time limit.
    gate.request_began();
    let waiting = timeout(IDLE_TIMEOUT * 10, read(&mut gate)).await;
    assert!(waiting.is_err());
}

#[tokio::test]
async fn without_a_free_permit_the_connection_that_has_been_idle_longest_is_closed() {
    let crowded = Arc::<Notify>::default();
    let mut open = Vec::new();
    for _ in 0..3 {
        let (gate, client) = pair_of(Arc::clone(&crowded)).await;
        open.push((gate, client));
    }
    // The first has not sent a request yet: it is new, not idle.
    for n in [2, 1] {
        let (gate, _) = &mut open[n];
        refused(gate).await;
        assert!(futures::poll!(Box::pin(read(gate))).is_pending());
    }
    for n in [2, 1] {
        crowded.notify_one();
        for (m, (gate, _)) in open.iter_mut().enumerate() {
            let read = futures::poll!(Box::pin(read(gate)));
            assert_eq!(read.is_ready(), m == n, "{n}: {m}");
        }
        open[n].0.request_began();
    }
}

#[tokio::test(start_paused = true)]
async fn a_grant_must_be_acknowledged_within_a_second_and_the_limit_ends_then() {
    let (mut gate, _client, _reports) = authorized().await;
    gate.request_began();
    write(&mut gate, GRANT).await.unwrap();
    let limit = |gate: &Gate| SockRef::from(&gate.0.stream).tcp_user_timeout().unwrap();
    assert_eq!(limit(&gate), Some(ACKNOWLEDGE_TIMEOUT));
    let idle = timeout(ACKNOWLEDGE_TIMEOUT * 3, read(&mut gate)).await;
    assert!(idle.is_err(), "closed");
    assert_eq!(limit(&gate), None);
}
