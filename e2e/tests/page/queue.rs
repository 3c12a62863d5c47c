//! The real queue, its clients, and a fake Discord that is told what to say.

use std::net::SocketAddr;

use gateway_queue_e2e::environment::Environment;
use gateway_queue_e2e::fake;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::process::{PATIENCE, Prints, Process, TOKEN};
use crate::program::program;

/// A queue that does not wait at its start.
pub(crate) struct Queue {
    pub(crate) page: String,
    pub(crate) admin: SocketAddr,
    clients: SocketAddr,
    process: Process,
}

impl Queue {
    pub(crate) async fn start(variables: &[(&str, &str)]) -> Self {
        let mut all = vec![
            ("HOST", "127.0.0.1"),
            ("PORT", "0"),
            ("ADMIN_PORT", "0"),
            ("START_GUARD", "false"),
            ("LOG_FORMAT", "json"),
        ];
        all.extend_from_slice(variables);
        let mut process = Process::start(program().await, Prints::ToStderr, &all);
        let listening = process.line(|line| line["message"] == "listening").await;
        let address = |key: &str| listening[key].as_str().unwrap().parse().unwrap();
        let admin: SocketAddr = address("admin_address");
        Self {
            page: format!("http://{admin}/"),
            admin,
            clients: address("queue_address"),
            process,
        }
    }

    pub(crate) async fn end(self) {
        self.process.terminate(PATIENCE).await;
    }

    /// A client that waits as long as it is kept.
    pub(crate) async fn ask(&self, shard: u32) -> TcpStream {
        ask(self.clients, shard).await
    }
}

pub(crate) async fn ask(clients: SocketAddr, shard: u32) -> TcpStream {
    let mut client = TcpStream::connect(clients).await.unwrap();
    let request = format!("GET /?shard={shard} HTTP/1.1\r\nhost: q\r\nconnection: close\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    client
}

pub(crate) async fn granted(mut client: TcpStream) {
    let mut answer = String::new();
    let reading = timeout(PATIENCE, client.read_to_string(&mut answer)).await;
    reading.expect("it was never granted").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

/// Ends with the test's runtime.
pub(crate) struct Discord {
    pub(crate) api: String,
    control: SocketAddr,
}

impl Discord {
    pub(crate) async fn start(variables: &[(&str, &str)]) -> Self {
        let lookup = |name: &str| {
            let given = variables.iter().find(|(given, _)| *given == name);
            let value = match name {
                "LISTEN" | "CONTROL" => "127.0.0.1:0",
                "DISCORD_TOKEN" => TOKEN,
                _ => given?.1,
            };
            Some(value.to_owned())
        };
        let settings = fake::settings::Settings::read(&Environment(&lookup)).unwrap();
        let fake = fake::Fake::bind(settings).await.unwrap();
        let addresses = fake.addresses().unwrap();
        tokio::spawn(fake.serve());
        Self {
            api: format!("http://{}/api/v10", addresses.discord),
            control: addresses.control,
        }
    }

    /// Changes the limits, or breaks: see `fake::control`.
    pub(crate) async fn set(&self, switch: &str, value: Value) {
        let body = value.to_string();
        let request = format!(
            "POST /{switch} HTTP/1.1\r\nhost: c\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut control = TcpStream::connect(self.control).await.unwrap();
        control.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        control.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    }
}
