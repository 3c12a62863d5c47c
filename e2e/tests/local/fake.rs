//! A fake Discord in a process of its own, and its control port.

use gateway_queue_e2e::fake::book::LeaseObject;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::process::{PATIENCE, Prints, Process, TOKEN};

pub(crate) struct Fake {
    pub(crate) discord: String,
    control: String,
    http: Client,
    _process: Process,
}

impl Fake {
    /// Starts one with an interval of a second and `variables` on top.
    pub(crate) async fn start(variables: &[(&str, &str)]) -> Self {
        let mut all = vec![
            ("LISTEN", "127.0.0.1:0"),
            ("CONTROL", "127.0.0.1:0"),
            ("DISCORD_TOKEN", TOKEN),
            ("IDENTIFY_INTERVAL", "1s"),
            // The record says it all, and shards that do not wait are many.
            ("RUST_LOG", "error"),
        ];
        all.extend_from_slice(variables);
        let mut process =
            Process::start(env!("CARGO_BIN_EXE_fake-discord"), Prints::ToStdout, &all);
        let listening = process.event("listening").await;
        let address = |key: &str| listening[key].as_str().unwrap().to_owned();
        Self {
            discord: address("discord"),
            control: address("control"),
            http: http(),
            _process: process,
        }
    }

    /// The base URL of the REST API.
    pub(crate) fn api(&self) -> String {
        format!("http://{}/api/v10", self.discord)
    }

    /// Follows the record until `enough`.
    pub(crate) async fn record_when(&self, enough: impl Fn(&LeaseObject) -> bool) -> LeaseObject {
        let mut last = None;
        let followed = timeout(PATIENCE, async {
            let mut url = format!("http://{}/record", self.control);
            loop {
                let record: LeaseObject = self.get(&url).await;
                if enough(&record) {
                    return record;
                }
                url = format!("http://{}/record?after={}", self.control, record.version);
                last = Some(record);
            }
        });
        match followed.await {
            Ok(record) => record,
            Err(_) => panic!("what was wanted did not happen, but {last:#?}"),
        }
    }

    pub(crate) async fn set(&self, switch: &str, value: Value) {
        let url = format!("http://{}/{switch}", self.control);
        let response = self.http.post(url).json(&value).send().await.unwrap();
        assert_eq!(response.status(), 200, "{switch} {value}");
    }

    async fn get(&self, url: &str) -> LeaseObject {
        let response = self.http.get(url).send().await.unwrap();
        response.json().await.unwrap()
    }
}

pub(crate) fn http() -> Client {
    // The client is built for TLS, and wants it ready though it is not used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .build()
        .unwrap()
}

#[tokio::test]
async fn the_limits_are_told_to_whom_they_concern() {
    let fake = Fake::start(&[("MAX_CONCURRENCY", "2"), ("SHARDS", "8")]).await;
    let url = format!("{}/gateway/bot", fake.api());
    let ask = |token: &str, agent: &str| {
        let token = format!("Bot {token}");
        let request = http().get(&url).header("authorization", token);
        if agent.is_empty() {
            request
        } else {
            request.header("user-agent", agent)
        }
    };
    let told = ask(TOKEN, "test").send().await.unwrap();
    let told: Value = told.json().await.unwrap();
    assert_eq!(
        told,
        json!({
            "url": format!("ws://{}", fake.discord),
            "shards": 8,
            "session_start_limit": {
                "total": 1000, "remaining": 1000, "reset_after": 0, "max_concurrency": 2
            },
        })
    );
    let stranger = ask("another", "test").send().await.unwrap();
    assert_eq!(stranger.status(), 401);
    let unnamed = ask(TOKEN, "").send().await.unwrap();
    assert_eq!(unnamed.status(), 403);

    let record = fake.record_when(|record| record.totals.fetches == 3).await;
    let statuses: Vec<_> = record.fetches.iter().map(|fetch| fetch.status).collect();
    assert_eq!(statuses, [200, 401, 403]);
}

#[tokio::test]
async fn an_outage_is_for_everything_new_until_it_is_over() {
    let fake = Fake::start(&[]).await;
    let url = format!("{}/gateway", fake.api());
    let ask = async || http().get(&url).send().await;

    fake.set("outage", json!({"mode": "status", "status": 503}))
        .await;
    assert_eq!(ask().await.unwrap().status(), 503);

    fake.set("outage", json!({"mode": "rate_limited", "retry_after": 30}))
        .await;
    let response = ask().await.unwrap();
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["retry-after"], "30");

    fake.set("outage", json!({"mode": "refuse"})).await;
    assert!(ask().await.is_err());

    fake.set("outage", json!({"mode": "ok"})).await;
    assert_eq!(ask().await.unwrap().status(), 200);
}
