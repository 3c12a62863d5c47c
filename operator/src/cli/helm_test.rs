//! `gateway-queue-operator check`: whether an installation works. `helm test`
//! runs it in a pod beside the operator.

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

/// A Service takes a moment to find the pods of a new Deployment, and the API
/// server one to serve a new kind.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);
/// For one try.
const ENOUGH: Duration = Duration::from_secs(5);
const LARGEST_ANSWER: usize = 4096;

/// Looks at everything and prints a line for each.
///
/// # Errors
/// When something is not as it should be.
pub fn run(check: Check) -> Result<(), BoxError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(all(check))
}

async fn all(check: Check) -> Result<(), BoxError> {
    let Check { readyz, namespace } = check;
    let queue = patiently(|| takes_a_queue(&namespace)).await;
    let ready = patiently(|| is_ready(&readyz)).await;
    let lines = [
        (
            format!("a GatewayQueue in the namespace {namespace}, by a dry run"),
            queue,
        ),
        (format!("the operator is ready, by {readyz}"), ready),
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

/// Tries until it works or the patience is over; the last error is the result.
async fn patiently<F: Future<Output = Result<(), BoxError>>>(
    attempt: impl Fn() -> F,
) -> Result<(), BoxError> {
    let started = Instant::now();
    loop {
        let outcome = match timeout(ENOUGH, attempt()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer within {} s", ENOUGH.as_secs()).into()),
        };
        if outcome.is_ok() || started.elapsed() >= PATIENCE {
            return outcome;
        }
        sleep(PAUSE).await;
    }
}

/// Asks for the smallest GatewayQueue there is, without making it.
async fn takes_a_queue(namespace: &str) -> Result<(), BoxError> {
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
    let taken = queues.create(&dry_run, &queue).await;
    let taken = taken.map_err(|error| requests::describe(&error))?;
    // A definition without our schema would take anything and fill in nothing.
    match taken.data["spec"]["port"].is_number() {
        true => Ok(()),
        false => Err(format!(
            "the API server does not fill in the defaults of a {}: its definition is not this version's",
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
        let body = Limited::new(response.into_body(), LARGEST_ANSWER);
        Ok::<_, BoxError>((status, body.collect().await?.to_bytes()))
    };
    // The connection is driven until the answer is there.
    let (status, said) = tokio::select! {
        answer = exchange => answer?,
        ended = connection => return Err(match ended {
            Ok(()) => "the connection was closed without an answer".into(),
            Err(error) => error.into(),
        }),
    };
    match status {
        StatusCode::OK => Ok(()),
        _ => Err(format!("{status}: {}", String::from_utf8_lossy(&said).trim()).into()),
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
    async fn an_operator_is_ready_when_it_says_so() {
        let (url, task) = operator(Readiness::of(Arc::default())).await;
        is_ready(&url).await.unwrap();
        task.abort();
    }

    #[tokio::test]
    async fn one_that_is_not_ready_is_quoted() {
        let mut readiness = Readiness::of(Arc::default());
        readiness.add("*");
        let (url, task) = operator(readiness).await;
        let error = is_ready(&url).await.unwrap_err().to_string();
        assert!(error.contains("503") && error.contains("caches"), "{error}");
        task.abort();
    }

    #[tokio::test]
    async fn one_that_is_not_there_is_no_hang() {
        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: Uri = format!("http://{}/readyz", free.local_addr().unwrap())
            .parse()
            .unwrap();
        drop(free);
        assert!(is_ready(&url).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_works_late_works() {
        let begun = Instant::now();
        let late = || async {
            match begun.elapsed() > Duration::from_secs(3) {
                true => Ok(()),
                false => Err("not yet".into()),
            }
        };
        patiently(late).await.unwrap();
        let never = || async { Err("no such kind".into()) };
        let error = patiently(never).await.unwrap_err();
        assert_eq!(error.to_string(), "no such kind");
    }
}
