//! The Lease of this queue, at the API server.
//!
//! One object is all that the queue needs of Kubernetes; a whole client library
//! would double the program.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gateway_queue_core::leadership::lease_object::{Failure, LeaseObject};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;
use url::form_urlencoded::byte_serialize;

use crate::config::LeaseRef;
use crate::http_client::{self, Unusable};
use crate::leadership::ca_bundle::{Limits, Trust};

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

/// A Lease has some kilobytes; 4096 buckets make it 30. etcd stores nothing larger
/// than 1.5 MiB.
const MAX_OBJECT_BYTES: usize = 2 * 1024 * 1024;

/// An answer that is no Lease is quoted up to this length.
const MOST_QUOTED: usize = 300;

/// Where the API server is, and the files that the kubelet keeps up to date.
#[derive(Clone, Debug)]
pub struct ApiServer {
    /// The URL without a path.
    pub url: String,
    /// The certificates of the authorities that it may be certified by, in PEM.
    pub ca: PathBuf,
    /// The token of this pod.
    pub token: PathBuf,
}

impl ApiServer {
    /// The API server of the cluster that this pod runs in, as the kubelet describes it.
    ///
    /// # Errors
    ///
    /// When this is no pod.
    pub fn of_this_pod(environment: impl Fn(&str) -> Option<String>) -> Result<Self, Unusable> {
        let given = |name: &str| environment(name).ok_or(format!("{name} is not set"));
        Ok(Self {
            url: address(
                &given("KUBERNETES_SERVICE_HOST")?,
                &given("KUBERNETES_SERVICE_PORT")?,
            ),
            ca: CA.into(),
            token: TOKEN.into(),
        })
    }
}

/// The client of one Lease.
#[derive(Clone, Debug)]
pub struct Lease {
    trust: Arc<Trust>,
    token: PathBuf,
    patience: Duration,
    url: String,
    watch_url: String,
}

impl Lease {
    /// Returns the client of this Lease at this API server.
    ///
    /// # Errors
    ///
    /// When its certificate authorities cannot be read.
    pub fn new(lease: &LeaseRef, api_server: ApiServer) -> Result<Self, Unusable> {
        let ApiServer { url, ca, token } = api_server;
        let LeaseRef {
            namespace, name, ..
        } = lease;
        // A leader must have time for three requests between a renewal that is
        // due and the end of its right.
        let busy = lease.margin.saturating_add(lease.renew_every);
        let spare = lease.duration.saturating_sub(busy);
        let leases = format!("{url}/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
        let seconds = WATCH.as_secs();
        let limits = Limits {
            connect: PATIENCE,
            answer: WATCH * 2,
        };
        Ok(Self {
            trust: Arc::new(Trust::new(ca, limits)?),
            token,
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
    pub async fn read(&self) -> Result<LeaseObject, Failure> {
        self.send(self.trust.client().get(&self.url)).await
    }

    /// Changes it, as a merge patch says, and tells what it is then.
    ///
    /// # Errors
    ///
    /// As [`Lease::read`]. Unless it is a conflict, it may have been done.
    pub async fn patch(&self, patch: &Value) -> Result<LeaseObject, Failure> {
        let client = self.trust.client();
        let request = client
            .patch(&self.url)
            .header(CONTENT_TYPE, "application/merge-patch+json")
            .body(patch.to_string());
        self.send(request).await
    }

    /// Watches it from this version on. Must be called within a tokio runtime.
    pub fn watch(&self, version: &str) -> Watch {
        let (sender, changes) = mpsc::channel(16);
        let version: String = byte_serialize(version.as_bytes()).collect();
        let url = format!("{}&resourceVersion={version}", self.watch_url);
        let request = self.trust.client().get(url);
        let authorization = authorization(&self.token);
        let task = tokio::spawn(async move {
            if let Err(error) = pass_on(request, authorization, sender).await {
                debug!(%error, "lease watch failed");
            }
        });
        Watch {
            changes,
            _task: AbortOnDropHandle::new(task),
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<LeaseObject, Failure> {
        let request = request.header(AUTHORIZATION, authorization(&self.token)?);
        let whole = async {
            let response = request.send().await.map_err(failed)?;
            match response.status() {
                StatusCode::OK => whole_body(response).await,
                _ => Err(refusal(response).await),
            }
        };
        let body = timeout(self.patience, whole).await;
        let body = body.map_err(|_| late(self.patience))??;
        LeaseObject::parse(&body).ok_or_else(|| Failure::Other("the answer is no Lease".to_owned()))
    }
}

/// The changes of a Lease, as they come.
#[derive(Debug)]
pub struct Watch {
    changes: mpsc::Receiver<LeaseObject>,
    _task: AbortOnDropHandle<()>,
}

impl Watch {
    /// The next change; none when the watch has ended, or the Lease is not there
    /// any more: then it has to be read. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<LeaseObject> {
        self.changes.recv().await
    }
}

async fn pass_on(
    request: RequestBuilder,
    authorization: Result<HeaderValue, Failure>,
    changes: mpsc::Sender<LeaseObject>,
) -> Result<(), Failure> {
    let request = request.header(AUTHORIZATION, authorization?);
    let begun = async {
        let response = request.send().await.map_err(failed)?;
        match response.status() {
            StatusCode::OK => Ok(response),
            _ => Err(refusal(response).await),
        }
    };
    let mut response = timeout(PATIENCE, begun)
        .await
        .map_err(|_| late(PATIENCE))??;
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
        if buffer.len() > MAX_OBJECT_BYTES {
            return Err(Failure::Other("an event that is too long".to_owned()));
        }
    }
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// The Lease that one line of a watch shows; none when it must be read.
pub fn changed(line: &[u8]) -> Option<LeaseObject> {
    let event: Event<'_> = serde_json::from_slice(line).ok()?;
    match event.kind {
        "ADDED" | "MODIFIED" => LeaseObject::parse(event.object.get().as_bytes()),
        // It was deleted, or the version is too old: it has to be read.
        _ => None,
    }
}

fn failed(error: reqwest::Error) -> Failure {
    Failure::Other(http_client::cause(&error))
}

fn late(patience: Duration) -> Failure {
    Failure::Other(format!("no answer within {} ms", patience.as_millis()))
}

/// The kubelet renews the token in its file.
fn authorization(file: &Path) -> Result<HeaderValue, Failure> {
    let shown = file.display();
    let token = fs::read_to_string(file).map_err(|e| Failure::Other(format!("{shown}: {e}")))?;
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))
        .map_err(|_| Failure::Other(format!("{shown} does not fit into a header")))?;
    value.set_sensitive(true);
    Ok(value)
}

async fn whole_body(mut response: Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > MAX_OBJECT_BYTES {
            return Err(Failure::Other("an answer that is too long".to_owned()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

async fn refusal(response: Response) -> Failure {
    let status = response.status();
    let body = whole_body(response).await.unwrap_or_default();
    let body = String::from_utf8_lossy(&body);
    let said: Value = serde_json::from_str(&body).unwrap_or_default();
    let message = said["message"].as_str().unwrap_or(&body);
    let message: String = message.chars().take(MOST_QUOTED).collect();
    let message = format!("the API server answered {}: {message}", status.as_u16());
    match status {
        // A proxy, or an API server that starts, says 404 of everything.
        StatusCode::NOT_FOUND if said["reason"] == "NotFound" => Failure::Missing,
        StatusCode::CONFLICT => Failure::Conflict,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::Denied(message),
        _ => Failure::Other(message),
    }
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
        let error = ApiServer::of_this_pod(|_| None).unwrap_err();
        assert_eq!(error.to_string(), "KUBERNETES_SERVICE_HOST is not set");
    }
}
