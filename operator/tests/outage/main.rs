//! What the program does while the API server is away, and when it is back.

// A test fails by panicking.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod api_server;

use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use api_server::ApiServer;

/// To start, or to notice something, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The status is right so soon after the API server has returned.
const RETURNED: Duration = Duration::from_secs(5);

/// Long enough for waits that double to have grown beyond that.
const OUTAGE: Duration = Duration::from_secs(15);

/// GatewayQueues, and what is made of them.
const KINDS: usize = 10;

/// The program, at work with an API server. It is killed when this is dropped.
struct Operator {
    _child: Child,
    admin: String,
    log: mpsc::UnboundedReceiver<String>,
    _kubeconfig: tempfile::NamedTempFile,
}

impl Operator {
    fn start(server: &ApiServer) -> Self {
        let kubeconfig = tempfile::NamedTempFile::new().unwrap();
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": server.url}}],
            "users": [{"name": "here", "user": {}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
        });
        std::fs::write(kubeconfig.path(), text.to_string()).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = free.local_addr().unwrap();
        drop(free);
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
            _child: child,
            admin: admin.to_string(),
            log,
            _kubeconfig: kubeconfig,
        }
    }

    /// What it has logged since the last call.
    fn logged(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.log.try_recv().ok()).collect()
    }

    async fn metrics(&self) -> std::io::Result<String> {
        let mut socket = TcpStream::connect(&self.admin).await?;
        let request = "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        socket.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// Waits until the metrics say of every watch that it works, or that it does not.
    async fn until_watches_are(&self, up: bool) {
        let end = if up { " 1" } else { " 0" };
        let mut last = Vec::new();
        let asking = async {
            loop {
                let metrics = self.metrics().await.unwrap_or_default();
                let lines = metrics.lines().map(str::to_owned);
                last = lines
                    .filter(|line| line.starts_with("gateway_queue_operator_watch_up{"))
                    .collect();
                if last.len() == KINDS && last.iter().all(|line| line.ends_with(end)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let found = timeout(PATIENCE, asking).await;
        assert!(found.is_ok(), "not all {end}: {last:#?}");
    }
}

fn queue() -> Value {
    json!({
        "apiVersion": "gatewayqueue.dev/v1alpha1", "kind": "GatewayQueue",
        "metadata": {"name": "my-bot", "namespace": "shop", "uid": "0001", "generation": 1},
        "spec": {},
    })
}

fn lease(leader: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": "my-bot", "namespace": "shop", "uid": "0002",
            "labels": {"gatewayqueue.dev/name": "my-bot"},
        },
        "spec": {"holderIdentity": format!("{leader}_1"), "leaseDurationSeconds": 15},
    })
}

#[tokio::test]
async fn the_status_is_right_within_seconds_of_the_return_of_the_api_server() {
    let server = ApiServer::start().await;
    server.put("gatewayqueues", queue());
    server.put("leases", lease("first"));
    let mut operator = Operator::start(&server);
    let told = timeout(PATIENCE, server.until_leader_is("first")).await;
    assert!(told.is_ok(), "{:?}", operator.logged());

    server.go_away();
    tokio::time::sleep(OUTAGE).await;
    server.put("leases", lease("second"));
    server.return_without_history();
    let told = timeout(RETURNED, server.until_leader_is("second")).await;
    assert!(told.is_ok(), "{:?}", operator.logged());
}

#[tokio::test]
async fn watches_that_are_refused_are_exported_and_logged_once_until_they_work_again() {
    let server = ApiServer::start().await;
    server.put("gatewayqueues", queue());
    server.put("leases", lease("first"));
    let mut operator = Operator::start(&server);
    operator.until_watches_are(true).await;
    operator.logged();

    server.refuse(true);
    operator.until_watches_are(false).await;
    let often = timeout(PATIENCE, server.until_refused(3 * KINDS)).await;
    assert!(often.is_ok(), "{:?}", operator.logged());
    let logged = operator.logged();
    let failed: Vec<_> = logged
        .iter()
        .filter(|line| line.contains("Forbidden"))
        .collect();
    assert_eq!(failed.len(), KINDS, "{logged:#?}");

    server.put("leases", lease("second"));
    server.refuse(false);
    operator.until_watches_are(true).await;
    let told = timeout(PATIENCE, server.until_leader_is("second")).await;
    assert!(told.is_ok(), "{:?}", operator.logged());
}
