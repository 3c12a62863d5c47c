//! An HTTP server that answers nothing by itself: the test takes and answers each request.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// The longest time that a test waits for a request, on a machine under load.
const PATIENCE: Duration = Duration::from_secs(60);

/// The server. Connections that the test does not take wait in the kernel.
#[derive(Debug)]
pub struct ManualServer(TcpListener);

/// A request that waits for its answer.
#[derive(Debug)]
pub struct Pending {
    /// The connection, on which nothing was written.
    pub stream: TcpStream,
    /// The head, with the empty line at its end.
    pub head: String,
}

impl ManualServer {
    /// Starts a server on a port that the system chooses.
    pub async fn start() -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// Starts a server at this address.
    pub async fn start_at(address: SocketAddr) -> Self {
        Self(TcpListener::bind(address).await.unwrap())
    }

    /// Returns the address.
    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Waits for the next request. A connection that is closed before is skipped.
    ///
    /// # Panics
    ///
    /// After a minute.
    pub async fn next(&self) -> Pending {
        let next = async {
            loop {
                let (mut stream, _) = self.0.accept().await.unwrap();
                let mut head = Vec::new();
                let whole = loop {
                    match stream.read_buf(&mut head).await {
                        Ok(0) | Err(_) => break false,
                        Ok(_) if head.ends_with(b"\r\n\r\n") => break true,
                        Ok(_) => {}
                    }
                };
                if whole {
                    let head = String::from_utf8(head).unwrap();
                    return Pending { stream, head };
                }
            }
        };
        timeout(PATIENCE, next).await.expect("a request")
    }
}

impl Pending {
    /// Writes these bytes and closes the connection.
    pub async fn answer(mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.unwrap();
        self.stream.shutdown().await.unwrap();
    }
}
