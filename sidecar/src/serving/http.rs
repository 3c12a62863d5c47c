//! The queue port: every request is an identify request.
//!
//! Whatever its method, path, headers or body, a request waits for its grant. It is
//! answered with the grant or, when there cannot be one, not at all: the connection is
//! closed. Only a client that sends `wait` is refused, when that time is over or this
//! process ends before. Of a request only its shard and its wait are kept or logged, since
//! some clients put the bot's token into bodies and URLs.

use std::future::{self, Future};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{self, Duration};

use futures::FutureExt as _;
use gateway_queue_core::protocol::GRANT;
use gateway_queue_core::protocol::refusal::Refusal;
use gateway_queue_core::protocol::request::{self, Ask, Hop, Malformed};
use gateway_queue_core::time::Moment;
use gateway_queue_telemetry::RateLimit;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::warn;

use crate::clock::boot_time;
use crate::forwarding::router::Route;
use crate::metrics::Metrics;
use crate::queue::handle::Turn;
use crate::queue::messages::Permit;
use crate::serving::gate::Gate;

/// As [`RETRY_AFTER`], but exact.
const X_RETRY_AFTER_MS: HeaderName = HeaderName::from_static("x-retry-after-ms");

/// The head of a request has at most this size; hyper knows no smaller limit.
const MOST_HEAD: usize = 8 * 1024;

/// A body is thrown away up to this size; more closes the connection.
const MOST_BODY: usize = 64 * 1024;

/// A client has this long for the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How many connections the peer port takes beyond its forwarded requests, so that the
/// probes of followers are answered when the leader holds as many as it may.
const PROBE_CONNECTIONS: usize = 16;

/// How long the last answers may take when the process ends. None of them waits
/// for anything but this machine.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Closes the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("closed without an answer")]
struct Close;

/// Who comes to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// Clients, who are answered or sent to the leader.
    Clients,
    /// Other queues, for clients that they hold. Theirs are never sent on, so
    /// that no request can walk in a circle.
    Peers,
}

/// What all connections of a port share.
struct ListenerContext {
    from: Listener,
    route: Route,
    /// This process is to end.
    leaving: CancellationToken,
    /// It ends now.
    end: CancellationToken,
    /// The requests that wait.
    waiting: TaskTracker,
    room: Arc<Semaphore>,
    /// The forwarded requests that may wait.
    forwarded: Semaphore,
    /// Ends the connection that has been idle for the longest.
    crowded: Arc<Notify>,
    /// Of the log line about invalid shards.
    invalid_shards: RateLimit,
}

/// Accepts connections until `end`, at most `most` at a time: the next one waits,
/// unanswered, as all others wait, and those behind it in the kernel's queue. A forwarded
/// request beyond `most` is answered with 204, and its pod repeats it; more connections are
/// for probes. From `leaving` on, a connection ends with its next answer:
/// clients keep them, and would come back here for ever. At the end, those who opted in to
/// other answers than the grant are refused, and all others closed.
pub async fn serve(
    listener: TcpListener,
    most: usize,
    from: Listener,
    route: Route,
    leaving: CancellationToken,
    end: CancellationToken,
) {
    let connections = match from {
        Listener::Clients => most,
        Listener::Peers => most.saturating_add(PROBE_CONNECTIONS),
    };
    let context = Arc::new(ListenerContext {
        from,
        route,
        leaving,
        end: end.clone(),
        waiting: TaskTracker::new(),
        room: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))),
        forwarded: Semaphore::new(most),
        crowded: Arc::default(),
        invalid_shards: RateLimit::per_minute(),
    });
    let _ = end.run_until_cancelled(accept(&listener, &context)).await;
    drop(listener);
    context.waiting.close();
    let _ = timeout(LAST_ANSWERS, context.waiting.wait()).await;
}

async fn accept(listener: &TcpListener, context: &Arc<ListenerContext>) {
    let failures = RateLimit::per_minute();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Some(seat) = context.seat().await else {
                    return;
                };
                // It ends with its client, or with the process. An error is a
                // client that hung up or was cut off: nobody's news.
                if let Ok(connection) = connection(stream, seat, context) {
                    tokio::spawn(connection);
                }
            }
            Err(error) => {
                // Out of file descriptors, mostly: others must end first.
                if let Some(suppressed) = failures.allow(time::Instant::now()) {
                    warn!(%error, suppressed, "accept failed");
                }
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// No `async` block around it: that would take more memory.
fn connection(
    stream: TcpStream,
    seat: OwnedSemaphorePermit,
    context: &Arc<ListenerContext>,
) -> io::Result<impl Future<Output = hyper::Result<()>> + Send + use<>> {
    let gate = Gate::new(stream, seat, Arc::clone(&context.crowded))?;
    let visit = RequestContext {
        gate: gate.clone(),
        context: Arc::clone(context),
        is_head: false,
    };
    let service = service_fn(move |request| visit.clone().handle(request));
    Ok(http1::Builder::new()
        // The gate has time limits of its own.
        .header_read_timeout(None)
        .max_buf_size(MOST_HEAD)
        .serve_connection(gate, service))
}

/// One request on its connection.
#[derive(Clone)]
struct RequestContext {
    gate: Gate,
    context: Arc<ListenerContext>,
    /// Its method is HEAD: the answer has no body.
    is_head: bool,
}

type Answer = Result<Response<Full<Bytes>>, Close>;

impl RequestContext {
    /// Not an `async fn`: the parsed request must be gone before the wait, as
    /// it holds 4 KiB, and a future keeps a place for all that it was ever
    /// given. For the same reason those who just wait have a future of their
    /// own: they are many.
    fn handle(
        mut self,
        request: Request<Incoming>,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        self.gate.request_began();
        self.is_head = request.method() == Method::HEAD;
        if self.context.from == Listener::Peers {
            let uri = request.uri();
            if let Some(leader) = request::probed(uri.path(), uri.query()) {
                return Box::pin(future::ready(self.probe(&leader)));
            }
            let hop = Hop::parse(uri.query());
            return Box::pin(self.hop(hop));
        }
        let ask = request::parse(request.uri().query());
        if let Ok(Ask { clear: false, .. }) = ask {
            self.context.count_invalid_shard();
        }
        // A grant to it could have no body, and would not be the grant.
        if request.method() == Method::CONNECT {
            return Box::pin(future::ready(Err(Close)));
        }
        let arrived = boot_time::now();
        let held = Held::new(&self.context);
        let body = request.into_body();
        match ask {
            Ok(Ask {
                shard, wait: None, ..
            }) if body.is_end_stream() => Box::pin(self.turn(held, shard, arrived, None)),
            _ => Box::pin(self.everything(held, ask, arrived, body)),
        }
    }

    async fn everything(
        self,
        held: Held,
        ask: Result<Ask, Malformed>,
        arrived: Moment,
        body: Incoming,
    ) -> Answer {
        let Ask { shard, wait, .. } = match ask {
            Ok(ask) => ask,
            Err(malformed) => return Ok(self.malformed(malformed)),
        };
        match self.context.end.run_until_cancelled(discard(body)).await {
            Some(discarded) => discarded?,
            None => return self.answer(wait.map(|_| self.context.route.no_leader())),
        }
        let left = |wait: Duration| wait.saturating_sub(boot_time::now().since(arrived));
        let deadline = wait.map(|wait| Instant::now() + left(wait));
        self.turn(held, shard, arrived, deadline).await
    }

    async fn turn(
        self,
        _held: Held,
        shard: u32,
        arrived: Moment,
        deadline: Option<Instant>,
    ) -> Answer {
        let turn = tokio::select! {
            biased;
            () = self.gate.gone() => return Err(Close),
            turn = self.context.route.turn(shard, arrived, deadline) => turn,
            () = self.context.end.cancelled() => None,
        };
        let turn = match turn {
            // This process ends. Only a client that opted in may be refused.
            None if deadline.is_some() => Some(self.context.route.no_leader()),
            turn => turn,
        };
        self.answer(turn)
    }

    async fn hop(self, hop: Option<Hop>) -> Answer {
        let hop = hop.ok_or(Close)?;
        let Ok(_permit) = self.context.forwarded.try_acquire() else {
            // It is alive, and holds as many as it may.
            return self.probe(&hop.leader);
        };
        let turn = tokio::select! {
            biased;
            () = self.gate.gone() => return Err(Close),
            turn = self.context.route.hop(hop) => turn,
            // The pod that asked goes on to the next leader.
            () = self.context.end.cancelled() => None,
        };
        self.answer(turn)
    }

    /// Another queue asks whether it reaches this leader. Any other name is one that this
    /// process does not lead by, or was made up.
    fn probe(&self, leader: &str) -> Answer {
        if !self.context.route.leads_as(leader) {
            return Err(Close);
        }
        self.gate.authorise_presence();
        Ok(self.response(StatusCode::NO_CONTENT, Bytes::new()))
    }

    fn answer(&self, turn: Option<Turn>) -> Answer {
        match turn {
            Some(Turn::Granted(permit)) => Ok(self.grant(permit)),
            Some(Turn::Refused(refusal)) => Ok(self.refuse(&refusal)),
            Some(Turn::Moved) | None => Err(Close),
        }
    }

    fn grant(&self, permit: Permit) -> Response<Full<Bytes>> {
        self.gate.authorise(permit, self.body_bytes(GRANT));
        self.response(StatusCode::OK, Bytes::from_static(GRANT))
    }

    fn refuse(&self, refusal: &Refusal) -> Response<Full<Bytes>> {
        let json = refusal.json();
        self.gate
            .authorise_refusal(self.body_bytes(json.as_bytes()));
        let mut response = self.response(StatusCode::TOO_MANY_REQUESTS, json.into());
        let headers = response.headers_mut();
        headers.insert(RETRY_AFTER, refusal.retry_after_seconds().into());
        headers.insert(X_RETRY_AFTER_MS, refusal.retry_after_ms().into());
        response
    }

    fn malformed(&self, malformed: Malformed) -> Response<Full<Bytes>> {
        self.context.route.metrics.refused("malformed");
        let json = malformed.json();
        self.gate
            .authorise_refusal(self.body_bytes(json.as_bytes()));
        self.response(StatusCode::BAD_REQUEST, json.into())
    }

    /// How many bytes of the body are sent behind its head.
    fn body_bytes(&self, body: &[u8]) -> usize {
        if self.is_head { 0 } else { body.len() }
    }

    fn response(&self, status: StatusCode, json: Bytes) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(json));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // The last answer on its connection, if this process is to end, or is unready: a
        // client that keeps its connection would never come to another pod.
        if self.context.leaving.is_cancelled() || !self.context.route.reach.health().is_ready() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Counts a client as held by this process, which does not end before its last answer.
struct Held {
    metrics: Arc<Metrics>,
    _waiting: TaskTrackerToken,
}

impl Held {
    fn new(context: &ListenerContext) -> Self {
        let metrics = Arc::clone(&context.route.metrics);
        metrics.held_requests.inc();
        Self {
            metrics,
            _waiting: context.waiting.token(),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.metrics.held_requests.dec();
    }
}

/// Reads a body to its end: hyper does not notice a client that hangs up while
/// a part of its body is unread.
async fn discard(mut body: Incoming) -> Result<(), Close> {
    let reading = async {
        let mut size = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Close)?;
            size += frame.data_ref().map_or(0, Bytes::len);
            if size > MOST_BODY {
                return Err(Close);
            }
        }
        Ok(())
    };
    timeout(BODY_TIMEOUT, reading).await.unwrap_or(Err(Close))
}

impl ListenerContext {
    /// A seat for one more connection. While there is none, those that are idle have
    /// to go, the one that is so for the longest first. None when there are no seats
    /// any more.
    async fn seat(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(seat) = Arc::clone(&self.room).try_acquire_owned() {
            return Some(seat);
        }
        self.crowded.notify_one();
        let seat = Arc::clone(&self.room).acquire_owned().await.ok()?;
        // If another connection has made room, none has to any more.
        let _ = self.crowded.notified().now_or_never();
        Some(seat)
    }

    fn count_invalid_shard(&self) {
        self.route.metrics.invalid_shards.inc();
        if let Some(suppressed) = self.invalid_shards.allow(time::Instant::now()) {
            let detail = "expected ?shard=N, 0 to 4294967295; treated as shard 0";
            warn!(detail, suppressed, "invalid shard");
        }
    }
}
