//! Queues for the shards: the real one, and one that grants immediately.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::fake::Fake;
use crate::process::{PATIENCE, Prints, Process, TOKEN};
use crate::program::program;

/// The real queue, in its own process.
pub(crate) struct Queue {
    pub(crate) url: String,
    port: String,
    process: Process,
}

impl Queue {
    /// Starts a queue with an interval of a second, which reads the limits from `fake` every
    /// second.
    pub(crate) async fn start(fake: &Fake) -> Self {
        Self::start_at("0", fake).await
    }

    /// Replaces the queue by another one on the same port.
    pub(crate) async fn replaced(self, fake: &Fake) -> Self {
        self.process.terminate(PATIENCE).await;
        Self::start_at(&self.port, fake).await
    }

    async fn start_at(port: &str, fake: &Fake) -> Self {
        let mut process = Process::start(
            program().await,
            Prints::ToStderr,
            &[
                ("HOST", "127.0.0.1"),
                ("PORT", port),
                ("ADMIN_PORT", "0"),
                ("DISCORD_TOKEN", TOKEN),
                ("DISCORD_API", &fake.api()),
                ("IDENTIFY_INTERVAL", "1s"),
                // The processes of all tests start at the same time.
                ("IDENTIFY_MARGIN", "1s"),
                ("ALLOW_UNSAFE_INTERVAL", "true"),
                ("REFRESH_INTERVAL", "1s"),
                ("LOG_FORMAT", "json"),
            ],
        );
        let listening = process.line(|line| line["message"] == "listening").await;
        let address = listening["queue_address"].as_str().unwrap();
        let (_, port) = address.rsplit_once(':').unwrap();
        Self {
            url: format!("http://{address}"),
            port: port.to_owned(),
            process,
        }
    }
}

/// Starts a queue that grants every request immediately, and returns its URL.
pub(crate) async fn unpaced() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await?);
                }
                client
                    .write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
                    .await
            });
        }
    });
    format!("http://{address}")
}
