//! `gateway-queue-operator check`, which `helm test` runs in a pod to check an installation.

use std::future::Future;
use std::time::Duration;

use gateway_queue_telemetry::{chain, escaped};
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::ApiResource;
use kube::{Client, Resource};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::BoxError;
use crate::api::GatewayQueue;
use crate::apply::requests;
use crate::cli::settings::Check;

/// How long a check is retried: a Service needs a moment to find new pods, and the API server to
/// serve a new kind.
const RETRY_FOR: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);
/// The time limit of an attempt.
const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_RESPONSE_BYTES: usize = 4096;

/// Runs all checks and prints a line for each.
///
/// # Errors
/// If a check fails.
pub fn run(check: Check) -> Result<(), BoxError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(all(check))
}

async fn all(check: Check) -> Result<(), BoxError> {
    let Check { readyz, namespace } = check;
    let queue = retry(|| accepts_a_queue(&namespace)).await;
    let ready = retry(|| is_ready(&readyz)).await;
    let lines = [
        (
            format!("the API server accepts a GatewayQueue in namespace {namespace} (dry run)"),
            queue,
        ),
        (format!("the operator is ready ({readyz})"), ready),
    ];
    let mut failed = 0;
    for (what, outcome) in &lines {
        match outcome {
            Ok(()) => println!("ok      {what}"),
            Err(error) => {
                failed += 1;
                println!("FAILED  {what}: {}", escaped(&chain(&**error)));
            }
        }
    }
    match failed {
        0 => Ok(()),
        _ => Err(format!("{failed} of {} checks failed", lines.len()).into()),
    }
}

/// Retries until it succeeds or [`RETRY_FOR`] is over. Returns the last result.
async fn retry<F: Future<Output = Result<(), BoxError>>>(
    attempt: impl Fn() -> F,
) -> Result<(), BoxError> {
    let started = Instant::now();
    loop {
        let outcome = match timeout(TIMEOUT, attempt()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs()).into()),
        };
        if outcome.is_ok() || started.elapsed() >= RETRY_FOR {
            return outcome;
        }
        sleep(PAUSE).await;
    }
}

/// Creates the smallest GatewayQueue as a dry run.
async fn accepts_a_queue(namespace: &str) -> Result<(), BoxError> {
    let client = Client::try_default().await?;
    let kind = ApiResource::erase::<GatewayQueue>(&());
    let queues: Api<DynamicObject> = Api::namespaced_with(client, namespace, &kind);
    let mut queue = DynamicObject::new("", &kind).data(json!({"spec": {}}));
    queue.metadata.name = None;
    queue.metadata.generate_name = Some("helm-test-".to_owned());
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let created = queues.create(&dry_run, &queue).await;
    let created = created.map_err(|error| requests::describe(&error))?;
    // A CRD without our schema would accept anything and set no defaults.
    match created.data["spec"]["port"].is_number() {
        true => Ok(()),
        false => Err(format!(
            "the API server does not set the defaults of a {}: the installed CRD is not that of this version",
            GatewayQueue::kind(&())
        )
        .into()),
    }
}

async fn is_ready(url: &Uri) -> Result<(), BoxError> {
    let host = url.host().ok_or("the URL has no host")?;
    let port = url.port_u16().unwrap_or(80);
    let socket = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    let request = Request::get(url.path())
        .header(header::HOST, format!("{host}:{port}"))
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_RESPONSE_BYTES);
        Ok::<_, BoxError>((status, body.collect().await?.to_bytes()))
    };
    // The connection is driven until the response has arrived.
    let (status, body) = tokio::select! {
        answer = exchange => answer?,
        ended = connection => return Err(match ended {
            Ok(()) => "the connection was closed without an answer".into(),
            Err(error) => error.into(),
        }),
    };
    match status {
        StatusCode::OK => Ok(()),
        _ => Err(format!("{status}: {}", String::from_utf8_lossy(&body).trim()).into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prometheus_client::registry::Registry;

    use super::*;
    use crate::admin;
    use crate::readiness::Readiness;

    async fn operator(readiness: Readiness) -> (Uri, tokio::task::JoinHandle<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = admin::serve(listener, Arc::new(readiness), Registry::default());
        let url = format!("http://{address}/readyz").parse().unwrap();
        (url, tokio::spawn(serve))
    }

    #[tokio::test]
    async fn a_ready_operator_passes() {
        let (url, task) = operator(Readiness::of(Arc::default())).await;
        is_ready(&url).await.unwrap();
        task.abort();
    }

    #[tokio::test]
    async fn an_operator_that_is_not_ready_is_quoted() {
        let mut readiness = Readiness::of(Arc::default());
        readiness.add("*");
        let (url, task) = operator(readiness).await;
        let error = is_ready(&url).await.unwrap_err().to_string();
        assert!(error.contains("503") && error.contains("caches"), "{error}");
        task.abort();
    }

    #[tokio::test]
    async fn a_missing_operator_is_an_error() {
        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: Uri = format!("http://{}/readyz", free.local_addr().unwrap())
            .parse()
            .unwrap();
        drop(free);
        assert!(is_ready(&url).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_succeeds_late_succeeds() {
        let started = Instant::now();
        let late = || async {
            match started.elapsed() > Duration::from_secs(3) {
                true => Ok(()),
                false => Err("not yet".into()),
            }
        };
        retry(late).await.unwrap();
        let never = || async { Err("no such kind".into()) };
        let error = retry(never).await.unwrap_err();
        assert_eq!(error.to_string(), "no such kind");
    }
}
