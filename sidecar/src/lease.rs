//! The Lease of this queue, at the API server.
//!
//! One object is all that the queue needs of Kubernetes; a whole client library
//! would double the program.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::client::{self, Unusable};
use crate::record::{Failure, Record};
use crate::settings::LeaseRef;

/// What the kubelet mounts into each pod.
const CA: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// No request takes longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// While somebody leads there is an event with each renewal. A watch without
/// any is dead, or about nothing.
const SILENCE: Duration = Duration::from_secs(30);

/// The API server ends a watch after this time, and another is begun.
const WATCH: Duration = Duration::from_secs(300);

/// A Lease has some kilobytes; 4096 buckets make it 30.
const MOST_EVENT: usize = 256 * 1024;

/// An answer that is no Lease is quoted up to this length.
const MOST_QUOTED: usize = 300;

/// A way to the Lease.
#[derive(Clone, Debug)]
pub struct Lease {
    client: Client,
    patience: Duration,
    url: String,
    watch_url: String,
}

impl Lease {
    /// The Lease in the cluster that this pod runs in; `environment` says where the API
    /// server is.
    ///
    /// # Errors
    ///
    /// When this is no pod with a service account.
    pub fn in_cluster(
        lease: &LeaseRef,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Unusable> {
        let given = |name: &str| environment(name).ok_or(format!("{name} is not set"));
        let server = address(
            &given("KUBERNETES_SERVICE_HOST")?,
            &given("KUBERNETES_SERVICE_PORT")?,
        );
        let mut roots = RootCertStore::empty();
        let certificates =
            CertificateDer::pem_file_iter(CA).map_err(|error| format!("{CA}: {error}"))?;
        for certificate in certificates {
            roots.add(certificate?)?;
        }
        // Never by a proxy that was meant for the outside.
        let client = client::client(roots, WATCH * 2, |builder| {
            builder.no_proxy().connect_timeout(PATIENCE)
        })?;
        let LeaseRef {
            namespace, name, ..
        } = lease;
        // A leader must have time for three requests between a renewal that is
        // due and the end of its right.
        let spare = lease.duration - lease.margin - lease.renew_every;
        let leases = format!("{server}/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
        let seconds = WATCH.as_secs();
        Ok(Self {
            client,
            patience: (spare / 3).min(PATIENCE),
            url: format!("{leases}/{name}"),
            watch_url: format!(
                "{leases}?watch=1&fieldSelector=metadata.name={name}&timeoutSeconds={seconds}"
            ),
        })
    }

    /// Reads it.
    ///
    /// # Errors
    ///
    /// When the API server does not answer within 5 s or less, or refuses.
    pub async fn read(&self) -> Result<Record, Failure> {
        self.send(self.client.get(&self.url)).await
    }

    /// Changes it, as a merge patch says, and tells what it is then.
    ///
    /// # Errors
    ///
    /// As [`Lease::read`]. Unless it is a conflict, it may have been done.
    pub async fn patch(&self, patch: &Value) -> Result<Record, Failure> {
        let request = self
            .client
            .patch(&self.url)
            .header(CONTENT_TYPE, "application/merge-patch+json")
            .body(patch.to_string());
        self.send(request).await
    }

    /// Watches it from this version on. Must be called within a tokio runtime.
    pub fn watch(&self, version: &str) -> Watch {
        let (sender, changes) = mpsc::channel(16);
        let url = format!("{}&resourceVersion={version}", self.watch_url);
        let request = self.client.get(url);
        let task = tokio::spawn(async move {
            if let Err(error) = pass_on(request, sender).await {
                debug!(%error, "cannot watch the Lease");
            }
        });
        Watch {
            changes,
            _task: AbortOnDropHandle::new(task),
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Record, Failure> {
        let request = request.header(AUTHORIZATION, authorization()?);
        let whole = async {
            let response = request.send().await.map_err(failed)?;
            match response.status() {
                StatusCode::OK => response.bytes().await.map_err(failed),
                _ => Err(refusal(response).await),
            }
        };
        let body = timeout(self.patience, whole).await;
        let body = body.map_err(|_| late(self.patience))??;
        Record::parse(&body).ok_or_else(|| Failure::Other("the answer is no Lease".to_owned()))
    }
}

/// The changes of a Lease, as they come.
#[derive(Debug)]
pub struct Watch {
    changes: mpsc::Receiver<Record>,
    _task: AbortOnDropHandle<()>,
}

impl Watch {
    /// The next change; none when the watch has ended, or the Lease is not there
    /// any more: then it has to be read. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Record> {
        self.changes.recv().await
    }
}

async fn pass_on(request: RequestBuilder, changes: mpsc::Sender<Record>) -> Result<(), Failure> {
    let request = request.header(AUTHORIZATION, authorization()?);
    let response = timeout(PATIENCE, request.send()).await;
    let mut response = response.map_err(|_| late(PATIENCE))?.map_err(failed)?;
    if response.status() != StatusCode::OK {
        return Err(refusal(response).await);
    }
    let mut buffer = Vec::new();
    loop {
        let chunk = timeout(SILENCE, response.chunk()).await;
        let chunk = chunk.map_err(|_| late(SILENCE))?.map_err(failed)?;
        let Some(chunk) = chunk else {
            return Ok(());
        };
        buffer.extend_from_slice(&chunk);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let Some(record) = changed(&line) else {
                return Ok(());
            };
            if changes.send(record).await.is_err() {
                return Ok(());
            }
        }
        if buffer.len() > MOST_EVENT {
            return Err(Failure::Other("an event that is too long".to_owned()));
        }
    }
}

/// What one line of a watch says.
fn changed(line: &[u8]) -> Option<Record> {
    let event: Value = serde_json::from_slice(line).ok()?;
    match event["type"].as_str()? {
        "ADDED" | "MODIFIED" => Record::parse(event["object"].to_string().as_bytes()),
        // It was deleted, or the version is too old: it has to be read.
        _ => None,
    }
}

fn failed(error: reqwest::Error) -> Failure {
    Failure::Other(client::cause(&error))
}

fn late(patience: Duration) -> Failure {
    Failure::Other(format!("no answer within {} ms", patience.as_millis()))
}

/// The kubelet renews the token in its file.
fn authorization() -> Result<HeaderValue, Failure> {
    let token = fs::read_to_string(TOKEN).map_err(|e| Failure::Other(format!("{TOKEN}: {e}")))?;
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))
        .map_err(|_| Failure::Other(format!("{TOKEN} does not fit into a header")))?;
    value.set_sensitive(true);
    Ok(value)
}

async fn refusal(response: Response) -> Failure {
    let status = match response.status() {
        StatusCode::NOT_FOUND => return Failure::Missing,
        StatusCode::CONFLICT => return Failure::Conflict,
        status => status.as_u16(),
    };
    let body = response.text().await.unwrap_or_default();
    let said: Value = serde_json::from_str(&body).unwrap_or_default();
    let message = said["message"].as_str().unwrap_or(&body);
    let message: String = message.chars().take(MOST_QUOTED).collect();
    Failure::Other(format!("the API server answered {status}: {message}"))
}

fn address(host: &str, port: &str) -> String {
    match host.parse() {
        Ok(IpAddr::V6(host)) => format!("https://[{host}]:{port}"),
        _ => format!("https://{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_server_may_have_any_kind_of_address() {
        assert_eq!(address("10.96.0.1", "443"), "https://10.96.0.1:443");
        assert_eq!(address("fd00::1", "443"), "https://[fd00::1]:443");
        assert_eq!(address("api.local", "6443"), "https://api.local:6443");
    }

    #[test]
    fn a_line_of_a_watch_is_a_lease_or_a_reason_to_read_it() {
        let object = r#"{"metadata":{"uid":"u","resourceVersion":"7"}}"#;
        let line = |kind| format!(r#"{{"type":"{kind}","object":{object}}}"#);
        let version = |kind| changed(line(kind).as_bytes()).map(|record| record.lease.version);
        assert_eq!(version("MODIFIED").as_deref(), Some("7"));
        assert_eq!(version("DELETED"), None);
        assert_eq!(version("ERROR"), None);
        assert!(changed(b"nonsense").is_none());
    }

    #[test]
    fn outside_of_a_pod_it_says_what_is_missing() {
        let lease = LeaseRef {
            namespace: "n".to_owned(),
            name: "l".to_owned(),
            pod: "p".to_owned(),
            ip: [10, 0, 0, 1].into(),
            duration: Duration::from_secs(15),
            renew_every: Duration::from_secs(5),
            margin: Duration::from_millis(1500),
            peer_port: 9091,
            grace: Duration::ZERO,
        };
        let error = Lease::in_cluster(&lease, |_| None).unwrap_err();
        assert_eq!(error.to_string(), "KUBERNETES_SERVICE_HOST is not set");
    }
}
