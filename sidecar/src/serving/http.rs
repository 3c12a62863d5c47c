//! The queue port and the peer port: they accept connections, as many as there are permits.

use std::sync::Arc;
use std::time::{self, Duration};

use futures::FutureExt as _;
use gateway_queue_telemetry::RateLimit;
use tokio::net::TcpListener;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::forwarding::router::Router;
use crate::serving::connection::Connection;
use crate::serving::handler::Handler;
pub use crate::serving::handler::Listener;

/// How many connections the peer port accepts beyond its forwarded requests, so that a
/// leader that holds as many as it may still responds to the probes of followers.
const PROBE_CONNECTIONS: usize = 16;

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
    let permits = Permits {
        free: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))),
        crowded: Arc::default(),
    };
    let handler = Handler::new(kind, max_clients, route, shutdown, end.clone());
    let handler = Arc::new(handler);
    let _ = end
        .run_until_cancelled(accept(&listener, &permits, &handler))
        .await;
    drop(listener);
    handler.finish().await;
}

async fn accept(listener: &TcpListener, permits: &Permits, handler: &Arc<Handler>) {
    let failures = RateLimit::per_minute();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Some(permit) = permits.acquire().await else {
                    return;
                };
                let crowded = Arc::clone(&permits.crowded);
                // An error means that the client has disconnected; not worth logging.
                if let Ok(connection) = Connection::new(stream, permit, crowded) {
                    tokio::spawn(Arc::clone(handler).serve(connection));
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

/// The permits of the connections of a port.
struct Permits {
    free: Arc<Semaphore>,
    /// Closes the connection that has been idle longest.
    crowded: Arc<Notify>,
}

impl Permits {
    /// Returns the permit of one more connection. If none is free, it closes the connection
    /// that has been idle longest, and waits. Returns none if the semaphore is closed.
    async fn acquire(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            return Some(permit);
        }
        self.crowded.notify_one();
        let permit = Arc::clone(&self.free).acquire_owned().await.ok()?;
        // If another connection was closed, no idle one has to be.
        let _ = self.crowded.notified().now_or_never();
        Some(permit)
    }
}
