//! The queue port: every request is an identify request.
//!
//! Whatever its method, path, headers or body, a request waits for its turn. It
//! is answered with the grant or, when there cannot be one, not at all: the
//! connection is closed. Only who says how long it wants to wait is told when
//! that is over. Nothing of a request is logged or kept but its shard and its
//! wait, since some clients put the bot's token into bodies and URLs.

use std::future::{self, Future};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{self, Duration};

use gateway_queue_telemetry::Seldom;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::clock;
use crate::gate::Gate;
use crate::handle::Turn;
use crate::metrics::Metrics;
use crate::moment::Moment;
use crate::permit::Permit;
use crate::query::{self, Ask, Hop, Malformed};
use crate::refusal::Refusal;
use crate::route::Route;
use crate::traces::Waiting;

/// What the original answers, byte for byte.
pub const GRANT: &[u8] = br#"{"message": "You're free to connect now! :)"}"#;

/// As [`RETRY_AFTER`], but exact.
const X_RETRY_AFTER_MS: HeaderName = HeaderName::from_static("x-retry-after-ms");

/// The head of a request has at most this size; hyper knows no smaller limit.
const MOST_HEAD: usize = 8 * 1024;

/// A body is thrown away up to this size; more closes the connection.
const MOST_BODY: usize = 64 * 1024;

/// A client has this long for the head of a request, and again for its body.
const PATIENCE: Duration = Duration::from_secs(30);

/// Closes the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("closed without an answer")]
struct Close;

/// Who comes to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// Clients, who are answered or sent to the leader.
    Clients,
    /// Other queues, for clients that they hold. Theirs are never sent on, so
    /// that no request can walk in a circle.
    Queues,
}

/// What all connections of a port share.
struct Door {
    from: From,
    route: Route,
    /// This process is to end.
    leaving: CancellationToken,
    /// For shards that cannot be read.
    unclear: Seldom,
}

/// Accepts connections until `end`. Beyond `most` new ones wait in the kernel's
/// queue, unanswered, as all others wait. From `leaving` on, a connection ends with
/// its next answer: clients keep them, and would come back here for ever.
pub async fn serve(
    listener: TcpListener,
    most: usize,
    from: From,
    route: Route,
    leaving: CancellationToken,
    end: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(most));
    let door = Arc::new(Door {
        from,
        route,
        leaving,
        unclear: Seldom::minutely(),
    });
    let refused = Seldom::minutely();
    loop {
        let seat = tokio::select! {
            Ok(seat) = Arc::clone(&room).acquire_owned() => seat,
            () = end.cancelled() => return,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = end.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                // It ends with its client, or with the process. An error is a
                // client that hung up or was cut off: nobody's news.
                if let Ok(connection) = connection(stream, seat, &door) {
                    tokio::spawn(connection);
                }
            }
            Err(error) => {
                // Out of file descriptors, mostly: others must end first.
                if let Some(unsaid) = refused.says(time::Instant::now()) {
                    warn!(%error, unsaid, "cannot accept a connection");
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
    door: &Arc<Door>,
) -> io::Result<impl Future<Output = hyper::Result<()>> + Send + use<>> {
    let gate = Gate::new(stream, seat)?;
    let visit = Visit {
        gate: gate.clone(),
        door: Arc::clone(door),
    };
    let service = service_fn(move |request| visit.clone().handle(request));
    Ok(http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(MOST_HEAD)
        .serve_connection(gate, service))
}

/// One request on its connection.
#[derive(Clone)]
struct Visit {
    gate: Gate,
    door: Arc<Door>,
}

type Answer = Result<Response<Full<Bytes>>, Close>;

impl Visit {
    /// Not an `async fn`: the parsed request must be gone before the wait, as
    /// it holds 4 KiB, and a future keeps a place for all that it was ever
    /// given. For the same reason those who just wait have a future of their
    /// own: they are many.
    fn handle(self, request: Request<Incoming>) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        if self.door.from == From::Queues {
            let hop = Hop::parse(request.uri().query());
            return Box::pin(self.hop(hop));
        }
        let ask = query::parse(request.uri().query());
        if let Ok(Ask { clear: false, .. }) = ask {
            self.door.unclear();
        }
        // A grant to it could have no body, and would not be the grant.
        if request.method() == Method::CONNECT {
            return Box::pin(future::ready(Err(Close)));
        }
        let arrived = clock::now();
        let body = request.into_body();
        match ask {
            Ok(Ask {
                shard, wait: None, ..
            }) if body.is_end_stream() => Box::pin(self.turn(shard, arrived, None)),
            _ => Box::pin(self.everything(ask, arrived, body)),
        }
    }

    async fn everything(
        self,
        ask: Result<Ask, Malformed>,
        arrived: Moment,
        body: Incoming,
    ) -> Answer {
        let Ask { shard, wait, .. } = match ask {
            Ok(ask) => ask,
            Err(malformed) => return Ok(self.malformed(malformed)),
        };
        discard(body).await?;
        let left = |wait: Duration| wait.saturating_sub(clock::now().since(arrived));
        let deadline = wait.map(|wait| Instant::now() + left(wait));
        self.turn(shard, arrived, deadline).await
    }

    async fn turn(self, shard: u32, arrived: Moment, deadline: Option<Instant>) -> Answer {
        let _held = Held::new(&self.door.route.metrics);
        let waiting = Waiting::new(shard, arrived);
        let turn = tokio::select! {
            biased;
            () = self.gate.gone() => return Err(Close),
            turn = self.door.route.turn(shard, arrived, deadline) => turn,
        };
        match &turn {
            Some(Turn::Granted(permit)) if permit.is_relayed() => waiting.ended("forwarded"),
            Some(Turn::Granted(_)) => waiting.has_a_grant(),
            Some(Turn::Refused(refusal)) => waiting.ended(refusal.reason.word()),
            Some(Turn::Moved) | None => waiting.ended("closed"),
        }
        self.answer(turn)
    }

    async fn hop(self, hop: Option<Hop>) -> Answer {
        let hop = hop.ok_or(Close)?;
        let turn = tokio::select! {
            biased;
            () = self.gate.gone() => return Err(Close),
            turn = self.door.route.hop(hop) => turn,
        };
        self.answer(turn)
    }

    fn answer(&self, turn: Option<Turn>) -> Answer {
        match turn {
            Some(Turn::Granted(permit)) => Ok(self.last(grant(&self.gate, permit))),
            Some(Turn::Refused(refusal)) => Ok(self.last(refuse(&self.gate, &refusal))),
            Some(Turn::Moved) | None => Err(Close),
        }
    }

    fn malformed(self, malformed: Malformed) -> Response<Full<Bytes>> {
        self.door.route.metrics.refused("malformed");
        self.gate.authorise_refusal();
        self.last(answer(StatusCode::BAD_REQUEST, malformed.json().into()))
    }

    /// The last answer on its connection, if this process is to end.
    fn last(&self, mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
        if self.door.leaving.is_cancelled() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    }
}

/// Counts a client as held by this process.
struct Held(Arc<Metrics>);

impl Held {
    fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.held.inc();
        Self(Arc::clone(metrics))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.dec();
    }
}

fn grant(gate: &Gate, permit: Permit) -> Response<Full<Bytes>> {
    gate.authorise(permit);
    answer(StatusCode::OK, Bytes::from_static(GRANT))
}

fn refuse(gate: &Gate, refusal: &Refusal) -> Response<Full<Bytes>> {
    gate.authorise_refusal();
    let mut response = answer(StatusCode::TOO_MANY_REQUESTS, refusal.json().into());
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, refusal.retry_after_seconds().into());
    headers.insert(X_RETRY_AFTER_MS, refusal.retry_after_ms().into());
    response
}

fn answer(status: StatusCode, json: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(json));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
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
    timeout(PATIENCE, reading).await.unwrap_or(Err(Close))
}

impl Door {
    fn unclear(&self) {
        self.route.metrics.unreadable_shards.inc();
        if let Some(unsaid) = self.unclear.says(time::Instant::now()) {
            warn!(
                unsaid,
                "a request names no readable shard (?shard=N, 0 to 4294967295): taken as shard 0"
            );
        }
    }
}
