//! The requests on the admin port: probes, metrics, the state and the page.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{self, Duration};

use gateway_queue_core::leadership::leader_health::Health;
use gateway_queue_core::leadership::state::Role;
use gateway_queue_core::queue::snapshot::{Detail, Snapshot};
use gateway_queue_core::queue::state_json;
use gateway_queue_telemetry::RateLimit;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::admin::dashboard;
use crate::admin::event_stream::Feed;
use crate::clock::boot_time;
use crate::forwarding::limits;
use crate::forwarding::router::Router;

/// One more connection closes the oldest, once it is older than [`CROWDED`].
const MAX_CONNECTIONS: usize = 192;

/// Longer than a request takes on a busy machine, because those of all pods of a bot may arrive at
/// once. As many as [`MAX_CONNECTIONS`] are accepted in this time, so even a thousand idle
/// connections a second do not keep the kubelet's probes waiting.
const CROWDED: Duration = Duration::from_millis(150);

/// The time limit for the head of a request, for an idle connection, and for a snapshot.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long `/readyz` waits for the Lease to be read. The kubelet probes a container once at its
/// start and then every 2 s, so a 503 would delay the pod. The probe's timeout is 2 s.
const READY_TIMEOUT: Duration = Duration::from_millis(1500);

/// The size of the buffer for a watcher that does not read.
const MAX_BUFFERED_BYTES: usize = 64 * 1024;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the admin port reports.
#[derive(Debug)]
pub struct Admin {
    /// The queue of this process, and where it forwards requests to.
    pub route: Router,
    /// Cancelled once the Lease has been read. Readiness does not depend on whether the pod can
    /// grant, or rollouts would block and the Service would be empty.
    pub lease_read: CancellationToken,
}

/// Serves the admin port until `shutdown`.
pub async fn serve(listener: TcpListener, admin: Admin, shutdown: CancellationToken) {
    let port = Arc::new(Port {
        admin,
        feed: Feed::new(),
    });
    let watching = port.feed.run(|| {
        let port = Arc::clone(&port);
        async move { port.admin.snapshot(Detail::Brief).await }
    });
    tokio::select! {
        () = accept(listener, &port, &shutdown) => {}
        () = watching => {}
    }
}

async fn accept(listener: TcpListener, port: &Arc<Port>, shutdown: &CancellationToken) {
    let failures = RateLimit::per_minute();
    let mut connections = JoinSet::new();
    let mut open = VecDeque::<(Instant, AbortHandle)>::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        while connections.try_join_next().is_some() {}
        open.retain(|(_, connection)| !connection.is_finished());
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                if let Some(suppressed) = failures.allow(time::Instant::now()) {
                    warn!(error = error.to_string(), suppressed, "accept failed");
                }
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Open connections must not keep out the kubelet's probes.
        if open.len() >= MAX_CONNECTIONS
            && let Some((accepted, _)) = open.front()
            && let ended = timeout_at(*accepted + CROWDED, connections.join_next())
            && ended.await.is_err()
            && let Some((_, oldest)) = open.pop_front()
        {
            oldest.abort();
        }
        let port = Arc::clone(port);
        let shutdown = shutdown.clone();
        let connection = connections.spawn(async move {
            let service = service_fn(|request| {
                let port = Arc::clone(&port);
                async move { port.respond(&request).await }
            });
            let serving = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(TIMEOUT)
                .max_buf_size(MAX_BUFFERED_BYTES)
                .serve_connection(TokioIo::new(stream), service);
            // An error means that the client has disconnected; not worth logging.
            let _ = shutdown.run_until_cancelled(serving).await;
        });
        open.push_back((Instant::now(), connection));
    }
}

/// Closes the connection without a response.
#[derive(Debug, thiserror::Error)]
#[error("this is not the queue port")]
struct NotTheQueuePort;

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
    /// If the request is meant for the queue port: many clients treat any response as a grant.
    async fn respond(
        &self,
        request: &Request<Incoming>,
    ) -> Result<Response<Body>, NotTheQueuePort> {
        if names_a_shard(request.uri().query()) {
            return Err(NotTheQueuePort);
        }
        let mut response = self.route(request).await;
        dashboard::add_headers(response.headers_mut());
        Ok(response)
    }

    async fn route(&self, request: &Request<Incoming>) -> Response<Body> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(
                StatusCode::METHOD_NOT_ALLOWED,
                "only GET and HEAD are allowed\n",
            );
        }
        let path = request.uri().path();
        if let Some((kind, file)) = dashboard::file(path) {
            return full(StatusCode::OK, kind, file);
        }
        match path {
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.admin.readiness().await,
            "/metrics" => {
                let metrics = &self.admin.route.metrics;
                let write = |snapshot: &Snapshot| metrics.page(snapshot).ok();
                self.snapshot(Detail::Numbers, OPENMETRICS, write).await
            }
            "/state" => {
                let write = |snapshot: &Snapshot| {
                    let json =
                        state_json::json(snapshot, &self.admin.route.about, Timestamp::now());
                    json.ok().map(|json| json + "\n")
                };
                self.snapshot(Detail::Shards, JSON, write).await
            }
            "/events" if request.method() == Method::HEAD => full(StatusCode::OK, EVENTS, ""),
            "/events" => {
                let about = Arc::clone(&self.admin.route.about);
                let events = StreamBody::new(self.feed.watch(about));
                let mut response = response(StatusCode::OK, EVENTS, events.boxed_unsync());
                // A stream that was ended must free its connection.
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
                response
            }
            // Clients that would otherwise ask Discord have one of its base URLs.
            "/gateway/bot" | "/api/v10/gateway/bot" => self.limits().await,
            _ => text(
                StatusCode::NOT_FOUND,
                "not found: there are / (a page), /livez, /readyz, /metrics, /state, /events and \
                 /gateway/bot\n",
            ),
        }
    }

    async fn limits(&self) -> Response<Body> {
        let (status, json) = limits::answer(&self.admin.route).await;
        let mut response = full(status, JSON, json);
        let headers = response.headers_mut();
        // All shards of a bot may ask at the same time, and none asks again.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }

    async fn snapshot(
        &self,
        detail: Detail,
        kind: &'static str,
        write: impl FnOnce(&Snapshot) -> Option<String>,
    ) -> Response<Body> {
        let Some(snapshot) = self.admin.snapshot(detail).await else {
            return unavailable("the queue task does not respond\n");
        };
        match write(&snapshot) {
            Some(page) => full(StatusCode::OK, kind, page),
            None => text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the response cannot be encoded\n",
            ),
        }
    }
}

impl Admin {
    async fn snapshot(&self, detail: Detail) -> Option<Snapshot> {
        let Router {
            handle,
            reach,
            upstream,
            ..
        } = &self.route;
        let taken = timeout(TIMEOUT, handle.look(detail)).await;
        let mut snapshot = taken.ok()??;
        if upstream.is_some() {
            snapshot.role = Role::Agent;
        }
        if matches!(snapshot.role, Role::Follower | Role::Agent) {
            snapshot.leader_silent = reach.is_silent(boot_time::now());
            snapshot.leader_health = reach.health();
        }
        Some(snapshot)
    }

    /// Returns 200 if this pod can hold requests and reaches the leader.
    async fn readiness(&self) -> Response<Body> {
        if timeout(READY_TIMEOUT, self.lease_read.cancelled())
            .await
            .is_err()
        {
            return unavailable("the Lease has not been read yet\n");
        }
        match self.route.reach.health() {
            Health::Unreachable {
                leader,
                lives: true,
                ..
            } => unavailable(format!(
                "the leader {} renews its Lease, but does not respond to this pod at {}; check \
                 NetworkPolicies and the service mesh\n",
                leader.pod().unwrap_or(&leader.holder),
                leader.address
            )),
            _ => text(StatusCode::OK, "ok\n"),
        }
    }
}

fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    full(status, TEXT, text)
}

fn unavailable(text: impl Into<Bytes>) -> Response<Body> {
    full(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
}

fn full(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    response(status, kind, Full::new(body.into()).boxed_unsync())
}

fn response(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
