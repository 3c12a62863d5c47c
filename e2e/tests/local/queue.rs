//! Queues for the shards: the real one, and one that does not pace at all.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::fake::Fake;
use crate::process::{PATIENCE, Prints, Process, TOKEN};
use crate::program::program;

/// The real queue, in a process of its own.
pub(crate) struct Queue {
    pub(crate) url: String,
    port: String,
    process: Process,
}

impl Queue {
    /// Starts one that keeps an interval of a second, and asks `fake` for the
    /// limits as often.
    pub(crate) async fn start(fake: &Fake) -> Self {
        Self::start_at("0", fake).await
    }

    /// Ends this one, and starts another in its place.
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
                // All processes of all tests start at the same time.
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

/// The URL of a queue that lets every shard identify at once.
pub(crate) async fn hasty() -> String {
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
