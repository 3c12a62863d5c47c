//! What the program does while the API server is away, and when it is back.

mod api_server;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::operator::Operator;

use api_server::ApiServer;

/// To start, or to notice something, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The status is right so soon after the API server has returned.
const RETURNED: Duration = Duration::from_secs(5);

/// Long enough for waits that double to have grown beyond that.
const OUTAGE: Duration = Duration::from_secs(15);

/// GatewayQueues, and what is made of them.
const KINDS: usize = 10;

impl Operator {
    /// What it has logged since the last call.
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
    let mut operator = Operator::start(&server.url);
    let reported = timeout(PATIENCE, server.until_leader_is("first")).await;
    assert!(reported.is_ok(), "{:?}", operator.logged());

    server.go_away();
    tokio::time::sleep(OUTAGE).await;
    server.put("leases", lease("second"));
    server.return_without_history();
    let reported = timeout(RETURNED, server.until_leader_is("second")).await;
    assert!(reported.is_ok(), "{:?}", operator.logged());
}

#[tokio::test]
async fn watches_that_are_refused_are_exported_and_retried_until_they_work_again() {
    let server = ApiServer::start().await;
    server.put("gatewayqueues", queue());
    server.put("leases", lease("first"));
    let mut operator = Operator::start(&server.url);
    operator.until_watches_are(true).await;

    server.refuse(true);
    operator.until_watches_are(false).await;
    let often = timeout(PATIENCE, server.until_each_is_refused(KINDS, 3)).await;
    assert!(often.is_ok(), "{:?}", operator.logged());

    server.put("leases", lease("second"));
    server.refuse(false);
    operator.until_watches_are(true).await;
    let reported = timeout(PATIENCE, server.until_leader_is("second")).await;
    assert!(reported.is_ok(), "{:?}", operator.logged());
}
