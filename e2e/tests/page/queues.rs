//! Queues without a start guard, and their clients.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::fake::Fake;
use crate::process::{PATIENCE, TOKEN};
use crate::queue::Queue;

/// Starts a queue.
pub(crate) async fn start(variables: &[(&str, &str)]) -> Queue {
    Queue::start(&[&[("START_GUARD", "false")], variables].concat()).await
}

/// Starts a queue that reads its limits from a fake Discord.
pub(crate) async fn start_with_token(fake: &Fake, variables: &[(&str, &str)]) -> Queue {
    let api = fake.api();
    let token = [("DISCORD_API", &*api), ("DISCORD_TOKEN", TOKEN)];
    start(&[&token, variables].concat()).await
}

/// Starts a client, which waits until it is dropped.
pub(crate) async fn request(queue: SocketAddr, shard: u32) -> TcpStream {
    send(queue, &format!("shard={shard}")).await
}

pub(crate) async fn granted(client: TcpStream) {
    answered(client, "200 OK").await;
}

/// Reports something about a shard.
pub(crate) async fn report(queue: SocketAddr, shard: u32, report: &str) {
    let client = send(queue, &format!("shard={shard}&report={report}")).await;
    answered(client, "204 No Content").await;
}

async fn send(queue: SocketAddr, query: &str) -> TcpStream {
    let mut client = TcpStream::connect(queue).await.unwrap();
    let head = format!("GET /?{query} HTTP/1.1\r\nhost: q\r\nconnection: close\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    client
}

async fn answered(mut client: TcpStream, status: &str) {
    let mut response = String::new();
    let reading = timeout(PATIENCE, client.read_to_string(&mut response)).await;
    reading.expect("no response").unwrap();
    let first = format!("HTTP/1.1 {status}\r\n");
    assert!(response.starts_with(&first), "{response}");
}
