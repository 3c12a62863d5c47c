//! The queue against small servers that answer as each test tells them.

// clippy knows only the test functions themselves as tests.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::time::Duration;

use gateway_queue_client::{Error, HttpQueue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::timeout;
use twilight_gateway_queue::Queue;

const GRANT: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
    content-length: 45\r\n\r\n{\"message\": \"You're free to connect now! :)\"}";
/// Long enough for anything on loopback, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    listener: TcpListener,
}

/// One request that waits for its answer.
struct Asked {
    stream: TcpStream,
    head: String,
}

impl Server {
    async fn start() -> (Self, HttpQueue) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let queue = HttpQueue::new(&format!("http://{address}")).unwrap();
        (Self { listener }, queue)
    }

    async fn asked(&self) -> Asked {
        let (mut stream, _) = timeout(PATIENCE, self.listener.accept())
            .await
            .expect("the queue asks")
            .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        Asked { stream, head }
    }
}

impl Asked {
    async fn answer(mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.unwrap();
        self.stream.shutdown().await.unwrap();
    }
}

async fn granted(turn: oneshot::Receiver<()>) {
    timeout(PATIENCE, turn)
        .await
        .expect("the turn comes")
        .expect("the sender lives until the turn");
}

/// True while the shard neither has its turn nor was told to enqueue again.
fn waits(turn: &mut oneshot::Receiver<()>) -> bool {
    turn.try_recv() == Err(TryRecvError::Empty)
}

#[tokio::test]
async fn a_grant_lets_the_shard_identify() {
    let (server, queue) = Server::start().await;
    let mut turn = queue.enqueue(42);
    let asked = server.asked().await;
    assert!(
        asked.head.starts_with("GET /?shard=42 HTTP/1.1\r\n"),
        "{}",
        asked.head
    );
    assert!(waits(&mut turn));
    asked.answer(GRANT).await;
    granted(turn).await;
}

#[tokio::test]
async fn any_2xx_is_a_grant() {
    let (server, queue) = Server::start().await;
    let turn = queue.enqueue(0);
    let asked = server.asked().await;
    asked.answer("HTTP/1.1 204 No Content\r\n\r\n").await;
    granted(turn).await;
}

#[tokio::test]
async fn what_is_not_a_grant_is_asked_again() {
    let half = GRANT.len() - 10;
    for refusal in [
        "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 429 Too Many Requests\r\nretry-after: 900\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n",
        // Closed without an answer, in the head, and in the body.
        "",
        "HTTP/1.1 200 OK\r\ncontent-le",
        &GRANT[..half],
    ] {
        let (server, queue) = Server::start().await;
        let mut turn = queue.enqueue(7);
        server.asked().await.answer(refusal).await;
        let again = server.asked().await;
        assert!(waits(&mut turn), "{refusal:?} was taken for a grant");
        assert!(again.head.starts_with("GET /?shard=7 "), "{}", again.head);
        again.answer(GRANT).await;
        granted(turn).await;
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_asked_until_it_is() {
    let (server, queue) = Server::start().await;
    let address = server.listener.local_addr().unwrap();
    drop(server);
    let mut turn = queue.enqueue(1);
    // Long enough for several refused connections.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(waits(&mut turn));
    let listener = TcpListener::bind(address).await.unwrap();
    let server = Server { listener };
    server.asked().await.answer(GRANT).await;
    granted(turn).await;
}

#[tokio::test]
async fn a_shard_that_stops_waiting_takes_its_request_with_it() {
    let (server, queue) = Server::start().await;
    let turn = queue.enqueue(3);
    let mut asked = server.asked().await;
    drop(turn);
    let read = timeout(Duration::from_secs(1), asked.stream.read(&mut [0]))
        .await
        .expect("the connection closes at once");
    assert!(!matches!(read, Ok(1..)), "nothing more is sent: {read:?}");
    let again = timeout(Duration::from_millis(500), server.listener.accept()).await;
    assert!(again.is_err(), "nobody asks for a shard that is gone");
}

#[tokio::test]
async fn each_shard_waits_on_a_connection_of_its_own() {
    let (server, queue) = Server::start().await;
    let mut first = queue.enqueue(1);
    let asked_first = server.asked().await;
    let second = queue.enqueue(2);
    server.asked().await.answer(GRANT).await;
    granted(second).await;
    assert!(waits(&mut first));
    asked_first.answer(GRANT).await;
    granted(first).await;
}

#[test]
fn an_address_that_cannot_be_used_is_refused_with_what_is_accepted() {
    for (address, fault) in [
        ("my-bot.default.svc", "cannot be read"),
        ("", "cannot be read"),
        ("ftp://my-bot", "has the scheme \"ftp\""),
        ("http://my-bot/?shard=1", "has a part after ? or #"),
    ] {
        let error = HttpQueue::new(address).unwrap_err();
        assert!(matches!(error, Error::Address { .. }));
        let error = error.to_string();
        assert!(error.contains(&format!("{address:?} {fault}")), "{error}");
        assert!(error.contains("http://my-bot.default.svc"), "{error}");
    }
    for address in ["http://my-bot", "https://queue.example:8443/bot/"] {
        assert!(HttpQueue::new(address).is_ok(), "{address}");
    }
}

#[test]
fn a_password_in_an_address_is_refused_and_not_repeated() {
    // The second is no address at all.
    for address in [
        "http://user:hunter2@my-bot",
        "http://user:hunter2#@my-bot:x",
    ] {
        let error = HttpQueue::new(address).unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}
