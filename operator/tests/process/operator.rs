//! The program as a process.

use std::net::SocketAddr;
use std::process::Stdio;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpSocket;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// The running program. It is killed when this is dropped.
pub(crate) struct Operator {
    pub(crate) child: Child,
    pub(crate) admin: SocketAddr,
    /// The lines of its log, until it exits.
    pub(crate) log: mpsc::UnboundedReceiver<String>,
    _kubeconfig: tempfile::NamedTempFile,
    /// Reserves the admin port: other processes cannot bind it, and the program can.
    _port: TcpSocket,
}

impl Operator {
    /// Starts the program with the API server at `url`.
    pub(crate) fn start(url: &str) -> Self {
        let kubeconfig = tempfile::NamedTempFile::new().unwrap();
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": url}}],
            "users": [{"name": "here", "user": {}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
        });
        std::fs::write(kubeconfig.path(), text.to_string()).unwrap();
        let port = TcpSocket::new_v4().unwrap();
        port.set_reuseaddr(true).unwrap();
        port.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let admin = port.local_addr().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_gateway-queue-operator"))
            .env_clear()
            .env("KUBECONFIG", kubeconfig.path())
            .args(["--queue-image", "gateway-queue:1", "--admin-port"])
            .arg(admin.port().to_string())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, log) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let _ = sender.send(line);
            }
        });
        Self {
            child,
            admin,
            log,
            _kubeconfig: kubeconfig,
            _port: port,
        }
    }
}
