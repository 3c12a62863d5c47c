//! Grants and reports, with a server whose responses each test writes.

// clippy knows only the test functions themselves as tests.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::time::Duration;

use gateway_queue_client::{Error, HttpQueue, Report};
use gateway_queue_testkit::manual_server::ManualServer;
use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::{Instant, timeout};
use twilight_gateway_queue::Queue;

const GRANT: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
    content-length: 45\r\n\r\n{\"message\": \"You're free to connect now! :)\"}";
/// A test that waits longer has failed, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

async fn start() -> (ManualServer, HttpQueue) {
    let server = ManualServer::start().await;
    let queue = HttpQueue::new(&format!("http://{}", server.address())).unwrap();
    (server, queue)
}

async fn granted(grant: oneshot::Receiver<()>) {
    timeout(PATIENCE, grant)
        .await
        .expect("the grant")
        .expect("the sender lives until the grant");
}

/// Whether the shard still waits: it has no grant, and the channel is open.
fn waits(grant: &mut oneshot::Receiver<()>) -> bool {
    grant.try_recv() == Err(TryRecvError::Empty)
}

#[tokio::test]
async fn a_response_with_any_2xx_status_is_a_grant() {
    for response in [GRANT, "HTTP/1.1 204 No Content\r\n\r\n"] {
        let (server, queue) = start().await;
        let mut grant = queue.enqueue(42);
        let asked = server.next().await;
        let head = &asked.head;
        assert!(
            head.starts_with("GET /?shard=42&wait=45 HTTP/1.1\r\n"),
            "{head}"
        );
        assert!(waits(&mut grant));
        asked.answer(response).await;
        granted(grant).await;
    }
}

#[tokio::test]
async fn a_request_without_a_grant_is_retried() {
    let half = GRANT.len() - 10;
    for refusal in [
        "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 429 Too Many Requests\r\nretry-after: soon\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n",
        // Closed without an answer, in the head, and in the body.
        "",
        "HTTP/1.1 200 OK\r\ncontent-le",
        &GRANT[..half],
    ] {
        let (server, queue) = start().await;
        let mut grant = queue.enqueue(7);
        server.next().await.answer(refusal).await;
        let again = server.next().await;
        assert!(waits(&mut grant), "{refusal:?} was treated as a grant");
        assert!(again.head.starts_with("GET /?shard=7&"), "{}", again.head);
        again.answer(GRANT).await;
        granted(grant).await;
    }
}

#[tokio::test]
async fn a_shard_asks_again_after_the_pause_that_the_server_names() {
    let (server, queue) = start().await;
    let mut grant = queue.enqueue(7);
    for (header, pause) in [("x-retry-after-ms: 700", 700), ("retry-after: 1", 1000)] {
        let asked = server.next().await;
        let refused = Instant::now();
        let refusal = format!("HTTP/1.1 429 Too Many Requests\r\n{header}\r\n\r\n");
        asked.answer(&refusal).await;
        let again = server.next().await;
        let paused = refused.elapsed();
        assert!(
            paused >= Duration::from_millis(pause),
            "{header}: {paused:?}"
        );
        assert!(waits(&mut grant));
        again.answer("").await;
    }
    server.next().await.answer(GRANT).await;
    granted(grant).await;
}

#[tokio::test]
async fn a_report_is_one_request_whatever_the_server_answers() {
    for (report, name) in [
        (Report::Ready, "ready"),
        (Report::Resumed, "resumed"),
        (Report::InvalidSession, "invalid_session"),
        (Report::Closed, "closed"),
    ] {
        for response in [
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\n\r\n",
            "",
        ] {
            let (server, queue) = start().await;
            queue.report(7, report);
            let reported = server.next().await;
            let line = format!("GET /?shard=7&report={name} HTTP/1.1\r\n");
            assert!(reported.head.starts_with(&line), "{}", reported.head);
            reported.answer(response).await;
            // A report that is repeated would come first.
            let grant = queue.enqueue(8);
            let next = server.next().await;
            assert!(next.head.starts_with("GET /?shard=8&"), "{}", next.head);
            next.answer(GRANT).await;
            granted(grant).await;
        }
    }
}

#[tokio::test]
async fn a_report_to_a_server_that_does_not_answer_ends() {
    let (server, queue) = start().await;
    queue.report(7, Report::Ready);
    let mut reported = server.next().await;
    let read = timeout(PATIENCE, reported.stream.read(&mut [0])).await;
    let read = read.expect("the connection is closed");
    assert!(!matches!(read, Ok(1..)), "nothing more is sent: {read:?}");
}

#[tokio::test]
async fn an_unreachable_server_is_retried_until_it_answers() {
    let (server, queue) = start().await;
    let address = server.address();
    drop(server);
    let mut grant = queue.enqueue(1);
    // Long enough for several refused connections.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(waits(&mut grant));
    let server = ManualServer::start_at(address).await;
    server.next().await.answer(GRANT).await;
    granted(grant).await;
}

#[tokio::test]
async fn a_shard_that_stops_waiting_withdraws_its_request() {
    let (server, queue) = start().await;
    let grant = queue.enqueue(3);
    let mut asked = server.next().await;
    drop(grant);
    let read = timeout(Duration::from_secs(1), asked.stream.read(&mut [0]))
        .await
        .expect("the connection closes immediately");
    assert!(!matches!(read, Ok(1..)), "nothing more is sent: {read:?}");
    let again = timeout(Duration::from_millis(500), server.next()).await;
    assert!(again.is_err(), "there is no second request");
}

#[tokio::test]
async fn each_shard_waits_on_its_own_connection() {
    let (server, queue) = start().await;
    let mut first = queue.enqueue(1);
    let asked_first = server.next().await;
    let second = queue.enqueue(2);
    server.next().await.answer(GRANT).await;
    granted(second).await;
    assert!(waits(&mut first));
    asked_first.answer(GRANT).await;
    granted(first).await;
}

#[test]
fn an_unusable_address_is_refused_with_what_is_accepted() {
    for (address, fault) in [
        ("my-bot.default.svc", "is not a URL"),
        ("", "is not a URL"),
        ("ftp://my-bot", "has the scheme \"ftp\""),
        ("http://my-bot/?shard=1", "has a part after ? or #"),
    ] {
        let error = HttpQueue::new(address).unwrap_err();
        assert!(matches!(error, Error::Address { .. }));
        let error = error.to_string();
        assert!(error.contains(&format!("{address:?} {fault}")), "{error}");
        assert!(error.contains("http://my-bot.default.svc"), "{error}");
    }
    for (address, accepted) in [
        ("http://my-bot", true),
        ("https://queue.example:8443/bot/", cfg!(feature = "tls")),
    ] {
        assert_eq!(HttpQueue::new(address).is_ok(), accepted, "{address}");
    }
}

#[test]
fn a_password_in_an_address_is_refused_and_not_repeated() {
    // The second is no URL.
    for address in [
        "http://user:hunter2@my-bot",
        "http://user:hunter2#@my-bot:x",
    ] {
        let error = HttpQueue::new(address).unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}
