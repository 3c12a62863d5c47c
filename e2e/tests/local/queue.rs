//! Queues for the shards: the real one, and one that does not pace at all.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::fake::Fake;
use crate::process::{PATIENCE, Prints, Process, TOKEN};

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

/// The queue's binary, built when it is older than its sources. Cargo tells a
/// test the paths of its own package's binaries alone, and the queue is another
/// package. It is built just as `cargo test --workspace` builds it, so that
/// within that command nothing is left to do.
async fn program() -> &'static str {
    static PROGRAM: OnceCell<String> = OnceCell::const_new();
    PROGRAM
        .get_or_init(async || {
            let mut cargo = Command::new(env!("CARGO"));
            cargo
                .args(["test", "--quiet", "--workspace", "--no-run"])
                .arg("--message-format=json-render-diagnostics")
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .kill_on_drop(true)
                .stderr(Stdio::inherit());
            // What cargo told about this package would make some build scripts
            // run again, and everything that is built on them.
            for (name, _) in std::env::vars_os() {
                let about_us = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
                if about_us
                    .iter()
                    .any(|prefix| name.to_string_lossy().starts_with(prefix))
                {
                    cargo.env_remove(name);
                }
            }
            let output = cargo.output().await.expect("cargo runs");
            assert!(output.status.success(), "the workspace does not build");
            String::from_utf8(output.stdout)
                .unwrap()
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .filter(|message| message["target"]["name"] == "gateway-queue")
                .filter(|message| message["profile"]["test"] == false)
                .find_map(|message| message["executable"].as_str().map(str::to_owned))
                .expect("cargo names the binary that it built")
        })
        .await
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
