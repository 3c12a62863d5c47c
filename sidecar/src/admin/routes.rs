//! The admin port: probes, metrics, the state and the page, for machines and
//! people.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gateway_queue_core::leadership::leader_health::Health;
use gateway_queue_core::leadership::state::Role;
use gateway_queue_core::queue::snapshot::{About, Detail, Snapshot};
use gateway_queue_core::queue::state_json;
use gateway_queue_telemetry::RateLimit;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::admin::dashboard;
use crate::admin::event_stream::Feed;
use crate::clock::boot_time;
use crate::forwarding::reach::Reach;
use crate::metrics::Metrics;
use crate::queue::handle::Handle;

/// Probes, Prometheus and a person or two. One more ends the oldest.
const MOST_CONNECTIONS: usize = 64;

/// A request whose head takes longer is cut off; so is an idle connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// So much is kept for one who watches and does not read.
const MOST_BUFFERED: usize = 64 * 1024;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the admin port shows.
#[derive(Debug)]
pub struct Admin {
    /// What does not change.
    pub about: Arc<About>,
    /// The way to the queue.
    pub handle: Handle,
    /// Whether the leader answers.
    pub reach: Arc<Reach>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// Whether the Lease was read. That a pod can grant is never asked, or rollouts would
    /// block and the Service would be empty.
    pub ready: Arc<AtomicBool>,
}

/// Answers until `shutdown`.
pub async fn serve(listener: TcpListener, admin: Admin, shutdown: CancellationToken) {
    let port = Arc::new(Port {
        admin,
        feed: Feed::new(),
    });
    let looking = port.feed.run(|| {
        let port = Arc::clone(&port);
        async move { port.admin.look(Detail::Brief).await }
    });
    tokio::select! {
        () = accept(listener, &port, &shutdown) => {}
        () = looking => {}
    }
}

async fn accept(listener: TcpListener, port: &Arc<Port>, shutdown: &CancellationToken) {
    let failures = RateLimit::per_minute();
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
                if let Some(suppressed) = failures.allow(Instant::now()) {
                    warn!(%error, suppressed, "accept failed");
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
        let port = Arc::clone(port);
        let shutdown = shutdown.clone();
        let connection = tokio::spawn(async move {
            let service = service_fn(|request| {
                let port = Arc::clone(&port);
                async move { port.answer(&request).await }
            });
            let serving = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .max_buf_size(MOST_BUFFERED)
                .serve_connection(TokioIo::new(stream), service);
            // A client that hangs up is nobody's news.
            let _ = shutdown.run_until_cancelled(serving).await;
        });
        open.push_back(connection.abort_handle());
    }
}

/// Closes the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("this is not the queue port")]
struct NoQueue;

fn names_a_shard(query: Option<&str>) -> bool {
    let query = query.unwrap_or_default().as_bytes();
    url::form_urlencoded::parse(query).any(|(name, _)| name == "shard")
}

/// The admin port while it is open.
struct Port {
    admin: Admin,
    feed: Feed,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

impl Port {
    /// # Errors
    ///
    /// When the request is meant for the queue port: many clients take any answer for a grant.
    async fn answer(&self, request: &Request<Incoming>) -> Result<Response<Body>, NoQueue> {
        if names_a_shard(request.uri().query()) {
            return Err(NoQueue);
        }
        let mut answer = self.find(request).await;
        dashboard::protect(answer.headers_mut());
        Ok(answer)
    }

    async fn find(&self, request: &Request<Incoming>) -> Response<Body> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        }
        let path = request.uri().path();
        if let Some((kind, part)) = dashboard::part(path) {
            return answer(StatusCode::OK, kind, part);
        }
        match path {
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.admin.readiness(),
            "/metrics" => {
                let metrics = &self.admin.metrics;
                let write = |seen: &Snapshot| metrics.page(seen).ok();
                self.look(Detail::Numbers, OPENMETRICS, write).await
            }
            "/state" => {
                let write = |seen: &Snapshot| {
                    let json = state_json::json(seen, &self.admin.about, Timestamp::now());
                    json.ok().map(|json| json + "\n")
                };
                self.look(Detail::Shards, JSON, write).await
            }
            "/events" if request.method() == Method::HEAD => answer(StatusCode::OK, EVENTS, ""),
            "/events" => {
                let events = StreamBody::new(self.feed.watch(Arc::clone(&self.admin.about)));
                let mut answer = response(StatusCode::OK, EVENTS, events.boxed_unsync());
                // An end is meant to be one: it makes room for others.
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(CONNECTION, close);
                answer
            }
            _ => text(
                StatusCode::NOT_FOUND,
                "there are /, a page, and /livez, /readyz, /metrics, /state and /events\n",
            ),
        }
    }

    async fn look(
        &self,
        detail: Detail,
        kind: &'static str,
        write: impl FnOnce(&Snapshot) -> Option<String>,
    ) -> Response<Body> {
        let Some(snapshot) = self.admin.look(detail).await else {
            return text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the queue does not answer\n",
            );
        };
        match write(&snapshot) {
            Some(page) => answer(StatusCode::OK, kind, page),
            None => text(StatusCode::INTERNAL_SERVER_ERROR, "cannot be written\n"),
        }
    }
}

impl Admin {
    async fn look(&self, detail: Detail) -> Option<Snapshot> {
        let looking = timeout(PATIENCE, self.handle.look(detail)).await;
        let mut snapshot = looking.ok()??;
        if snapshot.role == Role::Follower {
            snapshot.leader_silent = self.reach.is_silent(boot_time::now());
            snapshot.leader_health = self.reach.health();
        }
        Some(snapshot)
    }

    /// Whether clients may be sent here: this pod can hold them, and reaches the leader
    /// that has to grant.
    fn readiness(&self) -> Response<Body> {
        if !self.ready.load(Ordering::Relaxed) {
            return text(
                StatusCode::SERVICE_UNAVAILABLE,
                "not yet: the Lease was not reached\n",
            );
        }
        match self.reach.health() {
            Health::Unreachable {
                leader,
                lives: true,
                ..
            } => answer(
                StatusCode::SERVICE_UNAVAILABLE,
                TEXT,
                format!(
                    "the leader {} renews its Lease and does not answer this pod at {}; look at NetworkPolicies \
                     and at the service mesh\n",
                    leader.pod().unwrap_or(&leader.holder),
                    leader.address
                ),
            ),
            _ => text(StatusCode::OK, "ok\n"),
        }
    }
}

fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    answer(status, TEXT, text)
}

fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    response(status, kind, Full::new(body.into()).boxed_unsync())
}

fn response(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
