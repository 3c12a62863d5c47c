//! The client of this queue's Lease at the API server.
//!
//! The queue uses no other object of Kubernetes, and a complete client library would double
//! the size of the program.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gateway_queue_core::leadership::election;
use gateway_queue_core::leadership::lease_object::{Failure, LeaseObject};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use rustls::RootCertStore;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;
use url::form_urlencoded::byte_serialize;

use crate::ca_file::{CaFile, ClientSettings};
use crate::config::LeaseRef;
use crate::http_client::{self, Unusable};

/// The files that the kubelet mounts into each pod.
const CA: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// The longest time limit of a request.
const MAX_TIMEOUT: Duration = Duration::from_secs(5);

/// The time limit between two events of a watch: each renewal of the Lease is one.
const EVENT_TIMEOUT: Duration = Duration::from_secs(30);

/// After this time the API server ends a watch, and the next one begins.
const WATCH_DURATION: Duration = Duration::from_secs(300);

/// A Lease has some kilobytes, or 30 with 4096 buckets. etcd stores at most 1.5 MiB.
const MAX_OBJECT_BYTES: usize = 2 * 1024 * 1024;

/// The maximum length of a quote from the API server.
const MAX_QUOTED_CHARS: usize = 300;

/// The address of the API server, and the files that the kubelet keeps up to date.
#[derive(Clone, Debug)]
pub struct ApiServer {
    /// The URL without a path.
    pub url: String,
    /// The file with its CA certificates, in PEM.
    pub ca: PathBuf,
    /// The file with the token of this pod.
    pub token: PathBuf,
}

impl ApiServer {
    /// Returns the API server of the cluster that this pod runs in.
    ///
    /// # Errors
    ///
    /// If the process does not run in a pod.
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
    ca: Arc<CaFile>,
    token: PathBuf,
    timeout: Duration,
    url: String,
    watch_url: String,
}

impl Lease {
    /// Returns the client of this Lease at this API server.
    ///
    /// # Errors
    ///
    /// If the CA certificates cannot be read.
    pub fn new(lease: &LeaseRef, api_server: ApiServer) -> Result<Self, Unusable> {
        let ApiServer { url, ca, token } = api_server;
        let LeaseRef {
            namespace, name, ..
        } = lease;
        // A leader must have time for three requests between a due renewal and the end of
        // its right to grant.
        let busy = election::margin(lease.duration) + election::renew_every(lease.duration);
        let spare = lease.duration.saturating_sub(busy);
        let leases = format!("{url}/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
        let seconds = WATCH_DURATION.as_secs();
        let settings = ClientSettings {
            roots: RootCertStore::empty(),
            limit: WATCH_DURATION * 2,
            // The API server is not behind a proxy to the internet.
            change: |builder| builder.no_proxy().connect_timeout(MAX_TIMEOUT),
        };
        Ok(Self {
            ca: Arc::new(CaFile::new(ca, settings)?),
            token,
            timeout: (spare / 3).min(MAX_TIMEOUT),
            url: format!("{leases}/{name}"),
            watch_url: format!(
                "{leases}?watch=1&fieldSelector=metadata.name={name}&timeoutSeconds={seconds}"
            ),
        })
    }

    /// Reads the Lease.
    ///
    /// # Errors
    ///
    /// If the API server does not respond within 5 s or less, or refuses.
    pub async fn read(&self) -> Result<LeaseObject, Failure> {
        self.send(self.client().get(&self.url)).await
    }

    /// Applies a merge patch to the Lease, and returns the result.
    ///
    /// # Errors
    ///
    /// As [`Lease::read`]. Except after a conflict, the patch may have been applied.
    pub async fn patch(&self, patch: &Value) -> Result<LeaseObject, Failure> {
        let client = self.client();
        let request = client
            .patch(&self.url)
            .header(CONTENT_TYPE, "application/merge-patch+json")
            .body(patch.to_string());
        self.send(request).await
    }

    /// Watches the Lease from this version on. Must be called within a tokio runtime.
    pub fn watch(&self, version: &str) -> Watch {
        let (sender, changes) = mpsc::channel(16);
        let version: String = byte_serialize(version.as_bytes()).collect();
        let url = format!("{}&resourceVersion={version}", self.watch_url);
        let request = self.client().get(url);
        let authorization = authorization(&self.token);
        let task = tokio::spawn(async move {
            if let Err(error) = pass_on(request, authorization, sender).await {
                debug!(error = error.to_string(), "lease watch failed");
            }
        });
        Watch {
            changes,
            _task: AbortOnDropHandle::new(task),
        }
    }

    fn client(&self) -> Client {
        self.ca.client().0
    }

    async fn send(&self, request: RequestBuilder) -> Result<LeaseObject, Failure> {
        let request = request.header(AUTHORIZATION, authorization(&self.token)?);
        let whole = async { whole_body(accepted(request).await?).await };
        let body = timeout(self.timeout, whole).await;
        let body = body.map_err(|_| late(self.timeout))??;
        LeaseObject::parse(&body)
            .ok_or_else(|| Failure::Other("the response is not a Lease".to_owned()))
    }
}

/// The changes of a Lease.
#[derive(Debug)]
pub struct Watch {
    changes: mpsc::Receiver<LeaseObject>,
    _task: AbortOnDropHandle<()>,
}

impl Watch {
    /// Returns the next change. Returns none if the watch has ended or the Lease was deleted:
    /// then it has to be read. Cancel-safe.
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
    let response = timeout(MAX_TIMEOUT, accepted(request)).await;
    let mut response = response.map_err(|_| late(MAX_TIMEOUT))??;
    let mut buffer = Vec::new();
    loop {
        let chunk = timeout(EVENT_TIMEOUT, response.chunk()).await;
        let chunk = chunk.map_err(|_| late(EVENT_TIMEOUT))?.map_err(failed)?;
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
            return Err(Failure::Other("an event is too long".to_owned()));
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

/// Returns the Lease in a line of a watch, or none if it must be read.
pub fn changed(line: &[u8]) -> Option<LeaseObject> {
    let event: Event<'_> = serde_json::from_slice(line).ok()?;
    match event.kind {
        "ADDED" | "MODIFIED" => LeaseObject::parse(event.object.get().as_bytes()),
        // It was deleted, or the version is too old.
        _ => None,
    }
}

fn failed(error: reqwest::Error) -> Failure {
    Failure::Other(http_client::cause(&error))
}

fn late(limit: Duration) -> Failure {
    Failure::Other(format!("no response within {} ms", limit.as_millis()))
}

/// Reads the token, which the kubelet renews in its file.
fn authorization(file: &Path) -> Result<HeaderValue, Failure> {
    let shown = file.display();
    let token = fs::read_to_string(file).map_err(|e| Failure::Other(format!("{shown}: {e}")))?;
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))
        .map_err(|_| Failure::Other(format!("{shown} is not valid in a header")))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Sends the request, and returns the response if its status is 200.
async fn accepted(request: RequestBuilder) -> Result<Response, Failure> {
    let response = request.send().await.map_err(failed)?;
    match response.status() {
        StatusCode::OK => Ok(response),
        _ => Err(refusal(response).await),
    }
}

async fn whole_body(mut response: Response) -> Result<Vec<u8>, Failure> {
    let body = http_client::body(&mut response, MAX_OBJECT_BYTES).await;
    let body = body.map_err(failed)?;
    body.ok_or_else(|| Failure::Other("the response is too long".to_owned()))
}

async fn refusal(response: Response) -> Failure {
    let status = response.status();
    let body = whole_body(response).await.unwrap_or_default();
    let body = String::from_utf8_lossy(&body);
    let status_object: Value = serde_json::from_str(&body).unwrap_or_default();
    let message = status_object["message"].as_str().unwrap_or(&body);
    let message: String = message.chars().take(MAX_QUOTED_CHARS).collect();
    let message = format!("the API server answered {}: {message}", status.as_u16());
    match status {
        // A proxy, or an API server that starts, responds with 404 to everything.
        StatusCode::NOT_FOUND if status_object["reason"] == "NotFound" => Failure::Missing,
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
    fn a_line_of_a_watch_is_a_lease_or_requires_a_read() {
        let object = r#"{"metadata":{"uid":"u","resourceVersion":"7"}}"#;
        let line = |kind| format!(r#"{{"type":"{kind}","object":{object}}}"#);
        let version = |kind| changed(line(kind).as_bytes()).map(|record| record.lease.version);
        assert_eq!(version("MODIFIED").as_deref(), Some("7"));
        assert_eq!(version("DELETED"), None);
        assert_eq!(version("ERROR"), None);
        assert!(changed(b"nonsense").is_none());
    }
}
