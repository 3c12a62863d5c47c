//! The queue port: every request is an identify request.
//!
//! Whatever its method, path, headers or body, a request waits for its turn. It
//! is answered with the grant or, when there cannot be one, not at all: the
//! connection is closed. Nothing of a request is logged or kept but its shard,
//! since some clients put the bot's token into bodies and URLs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::clock;
use crate::gate::Gate;
use crate::keeper::Handle;
use crate::metrics::Metrics;
use crate::moment::Moment;
use crate::query::{self, Ask};

/// What the original answers, byte for byte.
pub const GRANT: &[u8] = br#"{"message": "You're free to connect now! :)"}"#;

/// A body is thrown away up to this size; more closes the connection.
const MOST_BODY: usize = 64 * 1024;

/// A client has this long for the head of a request, and again for its body.
const PATIENCE: Duration = Duration::from_secs(30);

/// At most one warning about unreadable shards in this time.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Closes the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("closed without an answer")]
struct Close;

/// What all connections share.
struct Door {
    handle: Handle,
    metrics: Arc<Metrics>,
    /// When an unreadable shard was last warned about.
    warned: Mutex<Option<Moment>>,
}

/// Accepts clients until `shutdown`. Beyond `most` connections new ones wait
/// in the kernel's queue, unanswered, as all others wait.
pub async fn serve(
    listener: TcpListener,
    most: usize,
    handle: Handle,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(most));
    let door = Arc::new(Door {
        handle,
        metrics,
        warned: Mutex::new(None),
    });
    loop {
        let seat = tokio::select! {
            seat = Arc::clone(&room).acquire_owned() => seat,
            () = shutdown.cancelled() => return,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                // It ends with its client, or with the process.
                let door = Arc::clone(&door);
                tokio::spawn(async move {
                    let _seat = seat;
                    connection(stream, door).await;
                });
            }
            Err(error) => {
                // Out of file descriptors, mostly: others must end first.
                warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, door: Arc<Door>) {
    let Ok(gate) = Gate::new(stream) else {
        return;
    };
    let service = service_fn(|request| handle(request, gate.clone(), Arc::clone(&door)));
    // An error is a client that hung up or was cut off: nobody's news.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(16 * 1024)
        .serve_connection(gate.clone(), service)
        .await;
}

/// Not an `async fn`: the parsed request must be gone before the wait, as it holds
/// 4 KiB, and a future keeps a place for all that it was ever given.
fn handle(
    request: Request<Incoming>,
    gate: Gate,
    door: Arc<Door>,
) -> impl Future<Output = Result<Response<Full<Bytes>>, Close>> {
    let Ask { shard, readable } = query::parse(request.uri().query());
    if !readable {
        door.unreadable();
    }
    let body = request.into_body();
    // Most requests have no body, and those who wait are many.
    let body = (!body.is_end_stream()).then(|| Box::pin(discard(body)));
    async move {
        if let Some(body) = body {
            body.await?;
        }
        let permit = tokio::select! {
            biased;
            () = gate.gone() => return Err(Close),
            permit = door.handle.enqueue(shard) => permit.ok_or(Close)?,
        };
        gate.authorise(permit);
        let mut response = Response::new(Full::new(Bytes::from_static(GRANT)));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        Ok(response)
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
    timeout(PATIENCE, reading).await.unwrap_or(Err(Close))
}

impl Door {
    fn unreadable(&self) {
        self.metrics.unreadable_shards.inc();
        let now = clock::now();
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_none_or(|at| now.since(at) >= WARN_EVERY) {
            *warned = Some(now);
            warn!(
                "a request names no readable shard (?shard=N, 0 to 4294967295): taken as shard 0"
            );
        }
    }
}
