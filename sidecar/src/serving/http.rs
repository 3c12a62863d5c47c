//! The queue port: every request is an identify request.
//!
//! Whatever its method, path, headers or body, a request waits for its grant. The response
//! is the grant; if there cannot be one, the connection is closed without a response. Only a
//! client that sends `wait` is refused, when that time is over or the process ends before.
//! A request with `report` waits for no grant, and is answered with 204. Only the shard, `wait`
//! and `report` of a request are kept or logged, because some clients put the bot's token into
//! bodies and URLs.

use std::future::{self, Future};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{self, Duration};

use futures::FutureExt as _;
use gateway_queue_core::protocol::GRANT;
use gateway_queue_core::protocol::peer::{ForwardedReport, ForwardedRequest, Question};
use gateway_queue_core::protocol::refusal::Refusal;
use gateway_queue_core::protocol::request::{self, Malformed, Parameters, Report, Shard};
use gateway_queue_core::time::Moment;
use gateway_queue_telemetry::RateLimit;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::{debug, warn};

use crate::clock::boot_time;
use crate::forwarding::router::Router;
use crate::forwarding::{leader_client, limits};
use crate::metrics::Metrics;
use crate::queue::handle::Decision;
use crate::queue::messages::Permit;
use crate::serving::gate::{Gate, Pass};

/// [`RETRY_AFTER`] in milliseconds.
const X_RETRY_AFTER_MS: HeaderName = HeaderName::from_static("x-retry-after-ms");

/// The maximum size of the head of a request; hyper allows no smaller limit.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// The maximum size of a body, which is discarded; more closes the connection.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// How long a client may take to send the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How many connections the peer port accepts beyond its forwarded requests, so that a
/// leader that holds as many as it may still responds to the probes of followers.
const PROBE_CONNECTIONS: usize = 16;

/// How long the last responses may take when the process ends. None of them waits for
/// another machine.
const LAST_RESPONSES_TIMEOUT: Duration = Duration::from_secs(1);

/// Closes the connection without a response.
#[derive(Debug, thiserror::Error)]
#[error("closed without a response")]
struct Close;

/// The kind of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// For clients, whose requests are served or forwarded.
    Clients,
    /// For other pods, whose requests are never forwarded again, so that no request can go
    /// in a circle.
    Peers,
}

/// The state that all connections of a port share.
struct ListenerContext {
    listener: Listener,
    route: Router,
    /// Cancelled when the process starts to shut down.
    shutdown: CancellationToken,
    /// Cancelled when the process ends.
    end: CancellationToken,
    /// The requests that wait.
    waiting: TaskTracker,
    connection_permits: Arc<Semaphore>,
    /// The permits of forwarded requests.
    forwarded: Semaphore,
    /// Closes the connection that has been idle longest.
    crowded: Arc<Notify>,
    /// Of the log line about invalid shards.
    invalid_shards: RateLimit,
}

/// Accepts connections until `end`, at most `max_clients` at a time; more wait in the
/// kernel's backlog. A forwarded request beyond `max_clients` is answered with 204, and its
/// pod repeats it; further connections are for probes. From `shutdown` on, a connection is
/// closed after its next response, because a client would reuse it. At the end, clients with
/// `wait` are refused, and all other connections are closed.
pub async fn serve(
    listener: TcpListener,
    max_clients: usize,
    kind: Listener,
    route: Router,
    shutdown: CancellationToken,
    end: CancellationToken,
) {
    let connections = match kind {
        Listener::Clients => max_clients,
        Listener::Peers => max_clients.saturating_add(PROBE_CONNECTIONS),
    };
    let context = Arc::new(ListenerContext {
        listener: kind,
        route,
        shutdown,
        end: end.clone(),
        waiting: TaskTracker::new(),
        connection_permits: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))),
        forwarded: Semaphore::new(max_clients),
        crowded: Arc::default(),
        invalid_shards: RateLimit::per_minute(),
    });
    let _ = end.run_until_cancelled(accept(&listener, &context)).await;
    drop(listener);
    context.waiting.close();
    let _ = timeout(LAST_RESPONSES_TIMEOUT, context.waiting.wait()).await;
}

async fn accept(listener: &TcpListener, context: &Arc<ListenerContext>) {
    let failures = RateLimit::per_minute();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Some(permit) = context.connection_permit().await else {
                    return;
                };
                // An error means that the client has disconnected; not worth logging.
                if let Ok(connection) = connection(stream, permit, context) {
                    tokio::spawn(connection);
                }
            }
            Err(error) => {
                // Usually there is no free file descriptor until a connection is closed.
                if let Some(suppressed) = failures.allow(time::Instant::now()) {
                    warn!(error = error.to_string(), suppressed, "accept failed");
                }
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Serves a connection. Not an `async fn`, whose future would take more memory.
fn connection(
    stream: TcpStream,
    permit: OwnedSemaphorePermit,
    context: &Arc<ListenerContext>,
) -> io::Result<impl Future<Output = hyper::Result<()>> + Send + use<>> {
    let gate = Gate::new(stream, permit, Arc::clone(&context.crowded))?;
    let request_context = RequestContext {
        gate: gate.clone(),
        context: Arc::clone(context),
        is_head: false,
    };
    let service = service_fn(move |request| request_context.clone().handle(request));
    Ok(http1::Builder::new()
        // The gate has time limits of its own.
        .header_read_timeout(None)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(gate, service))
}

/// A request on its connection.
#[derive(Clone)]
struct RequestContext {
    gate: Gate,
    context: Arc<ListenerContext>,
    /// Whether the method is HEAD: the response has no body.
    is_head: bool,
}

type ResponseOrClose = Result<Response<Full<Bytes>>, Close>;

impl RequestContext {
    /// Returns the response. Not an `async fn`: the parsed request takes 4 KiB and must be
    /// dropped before the wait, but a future reserves memory for all its arguments. For the
    /// same reason a request that only waits, which most do, has a future of its own.
    fn handle(
        mut self,
        request: Request<Incoming>,
    ) -> Pin<Box<dyn Future<Output = ResponseOrClose> + Send>> {
        self.gate.request_began();
        self.is_head = request.method() == Method::HEAD;
        if self.context.listener == Listener::Peers {
            let uri = request.uri();
            if let Some((question, leader)) = Question::read(uri.path(), uri.query()) {
                return match question {
                    Question::Probe => Box::pin(future::ready(self.probe(&leader))),
                    Question::Limits => Box::pin(self.limits(leader)),
                };
            }
            if let Some(report) = ForwardedReport::parse(uri.query()) {
                return Box::pin(future::ready(self.forwarded_report(report)));
            }
            let forwarded = ForwardedRequest::parse(uri.query());
            return Box::pin(self.forwarded(forwarded));
        }
        // Of another agent, or of itself: without this, two agents would ask each other for ever.
        let is_forwarded = request.headers().get(USER_AGENT) == Some(&leader_client::GATEWAY_QUEUE);
        if is_forwarded && self.context.route.upstream.is_some() {
            return Box::pin(future::ready(Err(Close)));
        }
        let parameters = request::parse(request.uri().query());
        if parameters.is_ok_and(|parameters| !parameters.shard.is_valid) {
            self.context.count_invalid_shard();
        }
        // A response to CONNECT has no body, so it could not be the grant.
        if request.method() == Method::CONNECT {
            return Box::pin(future::ready(Err(Close)));
        }
        let arrived = boot_time::now();
        let body = request.into_body();
        if let Ok(Parameters {
            shard,
            report: Some(report),
            ..
        }) = parameters
        {
            return Box::pin(self.report(shard.id, report, body));
        }
        let held = HeldRequest::new(&self.context);
        match parameters {
            Ok(Parameters {
                shard, wait: None, ..
            }) if body.is_end_stream() => Box::pin(self.wait(held, shard, arrived, None)),
            _ => Box::pin(self.read_and_wait(held, parameters, arrived, body)),
        }
    }

    async fn read_and_wait(
        self,
        held: HeldRequest,
        parameters: Result<Parameters, Malformed>,
        arrived: Moment,
        body: Incoming,
    ) -> ResponseOrClose {
        let Parameters { shard, wait, .. } = match parameters {
            Ok(parameters) => parameters,
            Err(malformed) => return Ok(self.malformed(malformed)),
        };
        match self.context.end.run_until_cancelled(discard(body)).await {
            Some(discarded) => discarded?,
            None => return self.decided(wait.map(|_| self.context.route.no_leader())),
        }
        let left = |wait: Duration| wait.saturating_sub(boot_time::now().since(arrived));
        let deadline = wait.map(|wait| Instant::now() + left(wait));
        self.wait(held, shard, arrived, deadline).await
    }

    /// Responds to a report, also while the process ends.
    async fn report(self, shard: u32, report: Report, body: Incoming) -> ResponseOrClose {
        let _waiting = self.context.waiting.token();
        debug!(shard, report = report.as_str(), "report received");
        self.context.route.metrics.reported(report);
        let passed_on = async {
            let discarded = discard(body).await;
            if discarded.is_ok() {
                self.context.route.report(shard, report).await;
            }
            discarded
        };
        let passed_on = self.context.end.run_until_cancelled(passed_on).await;
        passed_on.unwrap_or(Ok(())).map(|()| self.no_content())
    }

    async fn wait(
        self,
        _held: HeldRequest,
        shard: Shard,
        arrived: Moment,
        deadline: Option<Instant>,
    ) -> ResponseOrClose {
        let decision = tokio::select! {
            biased;
            () = self.gate.disconnected() => return Err(Close),
            decision = self.context.route.wait(shard, arrived, deadline) => decision,
            () = self.context.end.cancelled() => None,
        };
        let decision = match decision {
            // The process ends. Only a client with `wait` may be refused.
            None if deadline.is_some() => Some(self.context.route.no_leader()),
            decision => decision,
        };
        self.decided(decision)
    }

    async fn forwarded(self, request: Option<ForwardedRequest>) -> ResponseOrClose {
        let request = request.ok_or(Close)?;
        let Ok(_permit) = self.context.forwarded.try_acquire() else {
            // The response to a probe: this leader holds as many requests as it may.
            return self.probe(&request.leader);
        };
        let decision = tokio::select! {
            biased;
            () = self.gate.disconnected() => return Err(Close),
            decision = self.context.route.forwarded(request) => decision,
            // The pod that forwards it goes on to the next leader.
            () = self.context.end.cancelled() => None,
        };
        self.decided(decision)
    }

    /// Takes a report that another pod passes on, if this process is this leader.
    fn forwarded_report(&self, forwarded: ForwardedReport) -> ResponseOrClose {
        let ForwardedReport {
            leader,
            shard,
            report,
        } = forwarded;
        if self.context.route.leads_as(&leader) {
            self.context.route.handle.report(shard, report);
        }
        self.probe(&leader)
    }

    /// Responds to the probe of another pod if this process is this leader.
    fn probe(&self, leader: &str) -> ResponseOrClose {
        let leads = self.context.route.leads_as(leader);
        leads.then(|| self.no_content()).ok_or(Close)
    }

    /// Responds to a follower with the limits if this process is this leader.
    async fn limits(self, leader: String) -> ResponseOrClose {
        if !self.context.route.leads_as(&leader) {
            return Err(Close);
        }
        let (status, json) = limits::answer_as_leader(&self.context.route).await;
        self.gate
            .authorize(Pass::Limits, self.body_bytes(json.as_bytes()));
        Ok(self.response(status, json.into()))
    }

    fn decided(&self, decision: Option<Decision>) -> ResponseOrClose {
        match decision {
            Some(Decision::Granted(permit)) => Ok(self.grant(permit)),
            Some(Decision::Refused(refusal)) => Ok(self.refuse(&refusal)),
            Some(Decision::Moved) | None => Err(Close),
        }
    }

    fn grant(&self, permit: Permit) -> Response<Full<Bytes>> {
        self.gate
            .authorize(Pass::Grant(permit), self.body_bytes(GRANT));
        self.response(StatusCode::OK, Bytes::from_static(GRANT))
    }

    fn refuse(&self, refusal: &Refusal) -> Response<Full<Bytes>> {
        let mut response = self.refusal(StatusCode::TOO_MANY_REQUESTS, refusal.json());
        let headers = response.headers_mut();
        headers.insert(RETRY_AFTER, refusal.retry_after_seconds().into());
        headers.insert(X_RETRY_AFTER_MS, refusal.retry_after_ms().into());
        response
    }

    fn malformed(&self, malformed: Malformed) -> Response<Full<Bytes>> {
        self.context.route.metrics.refused("malformed");
        self.refusal(StatusCode::BAD_REQUEST, malformed.json())
    }

    fn refusal(&self, status: StatusCode, json: String) -> Response<Full<Bytes>> {
        let body_bytes = self.body_bytes(json.as_bytes());
        self.gate.authorize(Pass::Refusal, body_bytes);
        self.response(status, json.into())
    }

    /// Returns how many bytes of the body are sent after the head.
    fn body_bytes(&self, body: &[u8]) -> usize {
        if self.is_head { 0 } else { body.len() }
    }

    fn no_content(&self) -> Response<Full<Bytes>> {
        self.gate.authorize(Pass::NoContent, 0);
        let mut response = self.response(StatusCode::NO_CONTENT, Bytes::new());
        response.headers_mut().remove(CONTENT_TYPE);
        response
    }

    fn response(&self, status: StatusCode, json: Bytes) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(json));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // A client that reuses its connection would never reach another pod.
        if self.context.shutdown.is_cancelled() || !self.context.route.reach.health().is_ready() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Counts a request as held by this process, which does not end before its response.
struct HeldRequest {
    metrics: Arc<Metrics>,
    _waiting: TaskTrackerToken,
}

impl HeldRequest {
    fn new(context: &ListenerContext) -> Self {
        let metrics = Arc::clone(&context.route.metrics);
        metrics.held_requests.inc();
        Self {
            metrics,
            _waiting: context.waiting.token(),
        }
    }
}

impl Drop for HeldRequest {
    fn drop(&mut self) {
        self.metrics.held_requests.dec();
    }
}

/// Reads a body to its end: hyper does not notice that a client disconnects while a part
/// of its body is unread.
async fn discard(mut body: Incoming) -> Result<(), Close> {
    let reading = async {
        let mut size = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Close)?;
            size += frame.data_ref().map_or(0, Bytes::len);
            if size > MAX_BODY_BYTES {
                return Err(Close);
            }
        }
        Ok(())
    };
    timeout(BODY_TIMEOUT, reading).await.unwrap_or(Err(Close))
}

impl ListenerContext {
    /// Returns the permit of one more connection. If none is free, it closes the connection
    /// that has been idle longest, and waits. Returns none if the semaphore is closed.
    async fn connection_permit(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.connection_permits).try_acquire_owned() {
            return Some(permit);
        }
        self.crowded.notify_one();
        let permit = Arc::clone(&self.connection_permits)
            .acquire_owned()
            .await
            .ok()?;
        // If another connection was closed, no idle one has to be.
        let _ = self.crowded.notified().now_or_never();
        Some(permit)
    }

    fn count_invalid_shard(&self) {
        self.route.metrics.invalid_shards.inc();
        if let Some(suppressed) = self.invalid_shards.allow(time::Instant::now()) {
            let detail = "expected ?shard=N, 0 to 4294967295; treated as shard 0";
            warn!(detail, suppressed, "invalid shard");
        }
    }
}
