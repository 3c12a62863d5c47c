//! The real queue, its clients, and a scripted fake Discord.

use std::net::SocketAddr;

use gateway_queue_e2e::environment::Environment;
use gateway_queue_e2e::fake;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::process::{PATIENCE, Prints, Process, TOKEN};
use crate::program::program;

/// A queue without a start guard.
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

    /// Starts a client, which waits until it is dropped.
    pub(crate) async fn request(&self, shard: u32) -> TcpStream {
        request(self.clients, shard).await
    }
}

pub(crate) async fn request(clients: SocketAddr, shard: u32) -> TcpStream {
    let mut client = TcpStream::connect(clients).await.unwrap();
    let head = format!("GET /?shard={shard} HTTP/1.1\r\nhost: q\r\nconnection: close\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    client
}

pub(crate) async fn granted(mut client: TcpStream) {
    let mut response = String::new();
    let reading = timeout(PATIENCE, client.read_to_string(&mut response)).await;
    reading.expect("no grant").unwrap();
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
}

/// A fake Discord, which ends with the test's runtime.
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

    /// Sends a request to the control port: see `fake::control`.
    pub(crate) async fn set(&self, switch: &str, value: Value) {
        let body = value.to_string();
        let request = format!(
            "POST /{switch} HTTP/1.1\r\nhost: c\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut control = TcpStream::connect(self.control).await.unwrap();
        control.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        control.read_to_string(&mut response).await.unwrap();
        assert!(response.starts_with("HTTP/1.1 200 OK"), "{response}");
    }
}
