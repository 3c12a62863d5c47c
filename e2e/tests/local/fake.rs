//! A fake Discord in a process of its own, and its control port.

use std::time::Duration;

use gateway_queue_e2e::fake::record::Record;
use reqwest::Client;
use serde_json::Value;
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
            // Shards that do not wait cause many warnings.
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
    pub(crate) async fn record_when(&self, enough: impl Fn(&Record) -> bool) -> Record {
        self.record_within(PATIENCE, enough).await
    }

    /// Follows the record until `enough`, for at most so long.
    pub(crate) async fn record_within(
        &self,
        patience: Duration,
        enough: impl Fn(&Record) -> bool,
    ) -> Record {
        let mut last = None;
        let followed = timeout(patience, async {
            let mut url = format!("http://{}/record", self.control);
            loop {
                let record: Record = self.get(&url).await;
                if enough(&record) {
                    return record;
                }
                url = format!("http://{}/record?after={}", self.control, record.version);
                last = Some(record);
            }
        });
        match followed.await {
            Ok(record) => record,
            Err(_) => panic!("not within {patience:?}; the last record: {last:#?}"),
        }
    }

    pub(crate) async fn set(&self, switch: &str, value: Value) {
        let url = format!("http://{}/{switch}", self.control);
        let response = self.http.post(url).json(&value).send().await.unwrap();
        assert_eq!(response.status(), 200, "{switch} {value}");
    }

    async fn get(&self, url: &str) -> Record {
        let response = self.http.get(url).send().await.unwrap();
        response.json().await.unwrap()
    }
}

pub(crate) fn http() -> Client {
    // The client needs a TLS provider, although it uses no TLS.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .build()
        .unwrap()
}
