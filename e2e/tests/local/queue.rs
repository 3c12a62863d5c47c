//! The real queue, in a process of its own.

use std::net::SocketAddr;

use crate::process::{PATIENCE, Prints, Process};
use crate::program::program;

pub(crate) struct Queue {
    /// The port of the clients.
    pub(crate) clients: SocketAddr,
    pub(crate) admin: SocketAddr,
    process: Process,
}

impl Queue {
    pub(crate) async fn start(variables: &[(&str, &str)]) -> Self {
        let mut all = vec![
            ("HOST", "127.0.0.1"),
            ("PORT", "0"),
            ("ADMIN_PORT", "0"),
            ("LOG_FORMAT", "json"),
        ];
        all.extend_from_slice(variables);
        let mut process = Process::start(program().await, Prints::ToStderr, &all);
        let listening = process.line(|line| line["message"] == "listening").await;
        let address = |key: &str| listening[key].as_str().unwrap().parse().unwrap();
        Self {
            clients: address("queue_address"),
            admin: address("admin_address"),
            process,
        }
    }

    pub(crate) async fn end(self) {
        self.process.terminate(PATIENCE).await;
    }
}
