//! The admin port: probes, metrics and the state, for machines and people.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gateway_queue_telemetry::Seldom;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::clock;
use crate::handle::{Detail, Handle};
use crate::metrics::Metrics;
use crate::reach::Reach;
use crate::standing::Role;
use crate::state;

/// Probes, Prometheus and a person or two. One more ends the oldest.
const MOST_CONNECTIONS: usize = 64;

/// A request whose head takes longer is cut off; so is an idle connection.
const PATIENCE: Duration = Duration::from_secs(10);

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the admin port shows.
#[derive(Debug)]
pub struct Admin {
    /// The way to the queue.
    pub handle: Handle,
    /// Whether the leader answers.
    pub reach: Arc<Reach>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// Whether the queue can hold clients: never whether it can grant, or
    /// rollouts would block and the Service would be empty.
    pub ready: Arc<AtomicBool>,
}

/// Answers until `shutdown`.
pub async fn serve(listener: TcpListener, admin: Admin, shutdown: CancellationToken) {
    let admin = Arc::new(admin);
    let refused = Seldom::minutely();
    let mut open = VecDeque::<AbortHandle>::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        open.retain(|connection| !connection.is_finished());
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                if let Some(unsaid) = refused.says(Instant::now()) {
                    warn!(%error, unsaid, "cannot accept a connection on the admin port");
                }
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Those who hold a connection open must not keep the kubelet's probes
        // out.
        if open.len() >= MOST_CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let admin = Arc::clone(&admin);
        let shutdown = shutdown.clone();
        let connection = tokio::spawn(async move {
            let service = service_fn(|request| {
                let admin = Arc::clone(&admin);
                async move { Ok::<_, Infallible>(admin.answer(&request).await) }
            });
            let serving = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .serve_connection(TokioIo::new(stream), service);
            // A client that hangs up is nobody's news.
            let _ = shutdown.run_until_cancelled(serving).await;
        });
        open.push_back(connection.abort_handle());
    }
}

impl Admin {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
        }
        match request.uri().path() {
            "/livez" => answer(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" if self.ready.load(Ordering::Relaxed) => answer(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" => answer(
                StatusCode::SERVICE_UNAVAILABLE,
                TEXT,
                "not yet: the Lease was not reached\n",
            ),
            "/metrics" | "/state" => self.look(request.uri().path()).await,
            _ => answer(
                StatusCode::NOT_FOUND,
                TEXT,
                "there are /livez, /readyz, /metrics and /state\n",
            ),
        }
    }

    async fn look(&self, path: &str) -> Response<Full<Bytes>> {
        let detail = match path {
            "/metrics" => Detail::Numbers,
            _ => Detail::Shards,
        };
        let looking = timeout(PATIENCE, self.handle.look(detail)).await;
        let Ok(Some(mut snapshot)) = looking else {
            return answer(
                StatusCode::SERVICE_UNAVAILABLE,
                TEXT,
                "the queue does not answer\n",
            );
        };
        if snapshot.role == Role::Follows && self.reach.is_silent(clock::now()) {
            let why = "the leader does not answer; if it is gone, its Lease runs out soon";
            snapshot.trouble = Some(why.to_owned());
        }
        let page = match path {
            "/metrics" => self.metrics.page(&snapshot).ok().map(|p| (OPENMETRICS, p)),
            _ => state::json(&snapshot).ok().map(|p| (JSON, p)),
        };
        match page {
            Some((kind, page)) => answer(StatusCode::OK, kind, page),
            None => answer(
                StatusCode::INTERNAL_SERVER_ERROR,
                TEXT,
                "cannot be written\n",
            ),
        }
    }
}

fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
