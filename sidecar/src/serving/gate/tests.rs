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
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::{Instant, timeout};

use super::*;
use crate::queue::messages::Event;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

async fn pair() -> (Gate, TcpStream) {
    pair_of(Arc::default()).await
}

async fn pair_of(crowded: Arc<Notify>) -> (Gate, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await;
    let (server, _) = listener.accept().await.unwrap();
    let seat = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    (Gate::new(server, seat, crowded).unwrap(), client.unwrap())
}

fn grant() -> Grant {
    Grant {
        waiter: WaiterId(7),
        shard: 0,
        bucket: 0,
        arrived: Moment::ZERO,
        allowed: Moment::ZERO,
    }
}

async fn write(gate: &mut Gate, bytes: &[u8]) -> io::Result<usize> {
    poll_fn(|cx| Pin::new(&mut *gate).poll_write(cx, bytes)).await
}

#[tokio::test]
async fn a_grant_goes_out_once_and_says_when() {
    let (events, mut reports) = unbounded_channel();
    let (mut gate, mut client) = pair().await;
    let before = boot_time::now();
    gate.authorise(
        Permit::own(grant(), Moment::from_nanos(u64::MAX), events),
        0,
    );
    assert_eq!(write(&mut gate, ANSWER).await.unwrap(), ANSWER.len());
    let Some(Event::Written { at, .. }) = reports.recv().await else {
        panic!("not written");
    };
    assert!(at >= before && at <= boot_time::now());
    write(&mut gate, ANSWER).await.unwrap_err();
    drop(gate);
    let mut received = Vec::new();
    client.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, ANSWER);
}

/// All that hyper may write for one request: with or without its invitation to
/// send the body.
#[tokio::test]
async fn a_grant_goes_out_alone_however_the_writes_are_cut() {
    let invited = [CONTINUE, ANSWER].concat();
    for written in [ANSWER, &invited] {
        for first in 0..=written.len() {
            for second in [0, 1, 7, written.len()] {
                let second = (first + second).min(written.len());
                let cuts = [
                    &written[..first],
                    &written[first..second],
                    &written[second..],
                ];
                let (events, mut reports) = unbounded_channel();
                let (mut gate, mut client) = pair().await;
                gate.authorise(
                    Permit::own(grant(), Moment::from_nanos(u64::MAX), events),
                    0,
                );
                for bytes in cuts.into_iter().filter(|bytes| !bytes.is_empty()) {
                    let taken = write(&mut gate, bytes).await;
                    assert_eq!(taken.ok(), Some(bytes.len()), "{cuts:?}");
                }
                assert!(matches!(reports.recv().await, Some(Event::Written { .. })));
                drop(gate);
                let mut received = Vec::new();
                client.read_to_end(&mut received).await.unwrap();
                assert_eq!(received, ANSWER, "{cuts:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_sends_its_body_before_it_is_invited_is_granted() {
    let (gate, mut client) = pair().await;
    let handler = gate.clone();
    let (events, mut reports) = unbounded_channel();
    // The body is there when it is asked for, and the turn is free: hyper has
    // its invitation and the grant in one buffer.
    let service = service_fn(move |request: Request<Incoming>| {
        let (handler, events) = (handler.clone(), events.clone());
        async move {
            request.into_body().collect().await?;
            handler.authorise(
                Permit::own(grant(), Moment::from_nanos(u64::MAX), events),
                3,
            );
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
async fn a_client_that_has_sent_more_and_gone_gets_no_grant() {
    let (events, mut reports) = unbounded_channel();
    let (mut gate, mut client) = pair().await;
    client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    drop(client);
    gate.authorise(
        Permit::own(grant(), Moment::from_nanos(u64::MAX), events),
        0,
    );
    write(&mut gate, ANSWER).await.unwrap_err();
    assert!(matches!(reports.recv().await, Some(Event::Unwritten(_))));
}

#[tokio::test]
async fn nothing_goes_out_without_a_permit() {
    let (mut gate, mut client) = pair().await;
    write(&mut gate, ANSWER).await.unwrap_err();
    drop(gate);
    let mut received = Vec::new();
    client.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"");
}

#[tokio::test]
async fn a_grant_whose_leader_was_frozen_beyond_its_right_is_not_written() {
    let (events, mut reports) = unbounded_channel();
    let (mut gate, _client) = pair().await;
    gate.authorise(Permit::own(grant(), boot_time::now(), events), 0);
    write(&mut gate, ANSWER).await.unwrap_err();
    assert!(matches!(reports.recv().await, Some(Event::Unwritten(_))));
}

#[tokio::test]
async fn a_relayed_grant_is_not_written_after_a_gap() {
    let beat = Arc::new(crate::clock::stall_detector::StallDetector::new(
        Duration::ZERO,
    ));
    let (mut gate, _client) = pair().await;
    gate.authorise(Permit::relayed(beat.hold()), 0);
    write(&mut gate, ANSWER).await.unwrap();
    gate.authorise(Permit::relayed(beat.hold()), 0);
    beat.check(boot_time::now() + Duration::from_secs(1));
    write(&mut gate, ANSWER).await.unwrap_err();
}

#[tokio::test]
async fn a_pass_is_for_its_own_kind_of_answer() {
    let (events, mut reports) = unbounded_channel();
    let bad = b"HTTP/1.1 400 Bad Request\r\n\r\n";
    let late = b"HTTP/1.0 429 Too Many Requests\r\n\r\n";
    let (mut gate, _client) = pair().await;
    gate.authorise(
        Permit::own(grant(), Moment::from_nanos(u64::MAX), events),
        0,
    );
    write(&mut gate, bad).await.unwrap_err();
    assert!(matches!(reports.recv().await, Some(Event::Unwritten(_))));
    for (answer, authorised) in [(&bad[..], true), (&late[..], true), (ANSWER, false)] {
        gate.authorise_refusal(0);
        assert_eq!(write(&mut gate, answer).await.is_ok(), authorised);
        write(&mut gate, answer).await.unwrap_err();
    }
}

#[tokio::test]
async fn a_grant_for_a_client_that_has_just_gone_is_not_written() {
    let (events, mut reports) = unbounded_channel();
    let (mut gate, client) = pair().await;
    drop(client);
    gate.authorise(
        Permit::own(grant(), Moment::from_nanos(u64::MAX), events),
        0,
    );
    write(&mut gate, ANSWER).await.unwrap_err();
    assert!(matches!(
        reports.recv().await,
        Some(Event::Unwritten(WaiterId(7)))
    ));
}

#[tokio::test]
async fn what_was_read_ahead_is_read_first_and_then_the_rest() {
    let (mut gate, mut client) = pair().await;
    client.write_all(b"ahead").await.unwrap();
    let looked = timeout(Duration::from_millis(50), gate.gone()).await;
    assert!(looked.is_err());
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
async fn who_sends_without_end_while_it_waits_is_gone() {
    let (gate, mut client) = pair().await;
    let flood = tokio::spawn(async move { while client.write_all(&[b'x'; 4096]).await.is_ok() {} });
    gate.gone().await;
    drop(gate);
    flood.await.unwrap();
}

async fn read(gate: &mut Gate) -> io::Result<usize> {
    let mut buffer = [0; 64];
    let mut buffer = hyper::rt::ReadBuf::new(&mut buffer);
    poll_fn(|cx| Pin::new(&mut *gate).poll_read(cx, buffer.unfilled())).await?;
    Ok(buffer.filled().len())
}

/// Reads until the gate closes, and says after how long.
async fn closed_after(gate: &mut Gate) -> Duration {
    let start = Instant::now();
    let error = read(gate).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    start.elapsed()
}

async fn refused(gate: &mut Gate) {
    gate.request_began();
    gate.authorise_refusal(0);
    let refusal = b"HTTP/1.1 429 Too Many Requests\r\n\r\n";
    write(gate, refusal).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_has_30_s_for_its_head_and_two_minutes_between_requests() {
    let near = |took: Duration, seconds| took.abs_diff(Duration::from_secs(seconds)).as_secs() < 1;
    let (mut gate, _client) = pair().await;
    let took = closed_after(&mut gate).await;
    assert!(near(took, 30), "{took:?}");

    let (mut gate, mut client) = pair().await;
    refused(&mut gate).await;
    let took = closed_after(&mut gate).await;
    assert!(near(took, 120), "{took:?}");

    // The first byte of a next request is not the whole head.
    refused(&mut gate).await;
    client.write_all(b"G").await.unwrap();
    assert_eq!(read(&mut gate).await.unwrap(), 1);
    let took = closed_after(&mut gate).await;
    assert!(near(took, 30), "{took:?}");

    // While a request waits, nothing is expected of the client.
    gate.request_began();
    let waiting = timeout(IDLE_TIMEOUT * 10, read(&mut gate)).await;
    assert!(waiting.is_err());
}

#[tokio::test]
async fn when_it_is_crowded_the_connection_that_is_idle_for_the_longest_is_closed() {
    let crowded = Arc::<Notify>::default();
    let mut open = Vec::new();
    for _ in 0..3 {
        let (gate, client) = pair_of(Arc::clone(&crowded)).await;
        open.push((gate, client));
    }
    // The first has not asked for anything yet: it is new, not idle.
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
async fn a_grant_has_a_second_to_be_acknowledged_and_the_idle_time_after_it_no_limit() {
    let (events, _reports) = unbounded_channel();
    let (mut gate, _client) = pair().await;
    gate.request_began();
    let permit = Permit::own(grant(), Moment::from_nanos(u64::MAX), events);
    gate.authorise(permit, 0);
    write(&mut gate, ANSWER).await.unwrap();
    let limit = |gate: &Gate| SockRef::from(&gate.0.stream).tcp_user_timeout().unwrap();
    assert_eq!(limit(&gate), Some(ACKNOWLEDGE_WITHIN));
    let idle = timeout(ACKNOWLEDGE_WITHIN * 3, read(&mut gate)).await;
    assert!(idle.is_err(), "closed");
    assert_eq!(limit(&gate), None);
}
