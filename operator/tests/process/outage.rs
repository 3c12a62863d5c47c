//! What the program does while it cannot reach the API server or is rejected, and afterwards.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::api_server::ApiServer;
use crate::operator::Operator;

/// The longest time that a test waits for a condition, on a machine under load.
const PATIENCE: Duration = Duration::from_secs(30);

/// The time within which the status is current after an outage.
const MAX_RECOVERY: Duration = Duration::from_secs(5);

/// Long enough for pauses that double to become longer than that.
const OUTAGE: Duration = Duration::from_secs(15);

/// The number of watched kinds: GatewayQueues, their children and pods.
const KINDS: usize = 10;

impl Operator {
    /// The log lines since the last call.
    fn logged(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.log.try_recv().ok()).collect()
    }

    async fn metrics(&self) -> std::io::Result<String> {
        let mut socket = TcpStream::connect(self.admin).await?;
        let request = "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        socket.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// Waits until `watch_up` of every watch has this value.
    async fn until_watches_are(&self, up: bool) {
        let end = if up { " 1" } else { " 0" };
        let mut last = Vec::new();
        let polling = async {
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
        let found = timeout(PATIENCE, polling).await;
        assert!(found.is_ok(), "not all are{end}: {last:#?}");
    }
}

fn lease(leader: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": "my-bot-queue", "namespace": "shop", "uid": "0002",
            "labels": {"gatewayqueue.dev/name": "my-bot"},
        },
        "spec": {"holderIdentity": format!("{leader}_1"), "leaseDurationSeconds": 15},
    })
}

/// An operator, and an API server with a Lease that the pod `first` holds.
async fn start() -> (ApiServer, Operator) {
    let server = ApiServer::start().await;
    server.put("leases", lease("first"));
    let operator = Operator::start(&server.url);
    (server, operator)
}

#[tokio::test]
async fn the_status_is_current_within_seconds_after_an_outage_of_the_api_server() {
    let (server, mut operator) = start().await;
    let reported = timeout(PATIENCE, server.until_leader_is("first")).await;
    assert!(reported.is_ok(), "{:?}", operator.logged());

    server.disconnect();
    tokio::time::sleep(OUTAGE).await;
    server.put("leases", lease("second"));
    server.reconnect_without_history();
    let reported = timeout(MAX_RECOVERY, server.until_leader_is("second")).await;
    assert!(reported.is_ok(), "{:?}", operator.logged());
}

#[tokio::test]
async fn rejected_watches_are_exported_and_retried_until_they_work_again() {
    let (server, mut operator) = start().await;
    operator.until_watches_are(true).await;

    server.reject_reads(true);
    operator.until_watches_are(false).await;
    let retried = timeout(PATIENCE, server.until_rejected(KINDS, 3)).await;
    assert!(retried.is_ok(), "{:?}", operator.logged());

    server.put("leases", lease("second"));
    server.reject_reads(false);
    operator.until_watches_are(true).await;
    let reported = timeout(PATIENCE, server.until_leader_is("second")).await;
    assert!(reported.is_ok(), "{:?}", operator.logged());
}
