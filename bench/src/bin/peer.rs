//! The peer: a server with the design of twilight's gateway-queue, on today's crates.
//!
//! As in the original, one thread runs hyper's HTTP/1 server on a queue of
//! `twilight-gateway-queue`, and every request is answered when the queue grants its shard. The
//! limits come from the environment instead of Discord. It logs nothing, which is in its favor:
//! the original logs a line for each client that disconnects while it waits.

use std::env;
use std::net::IpAddr;
use std::pin::pin;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use twilight_gateway_queue::{InMemoryQueue, Queue as _};

const GRANT: Bytes = Bytes::from_static(br#"{"message": "You're free to connect now! :)"}"#);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let total: u32 = setting("TOTAL", 1_000_000)?;
    let queue = InMemoryQueue::new(
        setting("MAX_CONCURRENCY", 1)?,
        setting("REMAINING", total)?,
        Duration::from_secs(setting("RESET_AFTER", 86_400)?),
        total,
    );
    let host: IpAddr = setting("HOST", [127, 0, 0, 1].into())?;
    let port: u16 = setting("PORT", 0)?;
    let listener = TcpListener::bind((host, port)).await?;
    let address = listener.local_addr()?;
    let server = http1::Builder::new();
    let graceful = GracefulShutdown::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut stopped = pin!(terminate.recv());
    eprintln!(r#"{{"message":"listening","queue_address":"{address}"}}"#);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let queue = queue.clone();
                let respond = service_fn(move |request: Request<Incoming>| {
                    let granted = queue.enqueue(shard(request.uri().query()));
                    async move {
                        granted.await?;
                        Ok::<_, anyhow::Error>(Response::new(Full::new(GRANT)))
                    }
                });
                let connection = server.serve_connection(TokioIo::new(stream), respond);
                tokio::spawn(graceful.watch(connection));
            }
            _ = stopped.as_mut() => break,
        }
    }
    drop(listener);
    let _ = tokio::time::timeout(Duration::from_secs(10), graceful.shutdown()).await;
    Ok(())
}

/// Returns the parameter `shard` of a query, or 0.
fn shard(query: Option<&str>) -> u32 {
    let parameters = query.unwrap_or_default().split('&');
    let mut shards =
        parameters.filter_map(|parameter| parameter.strip_prefix("shard=")?.parse().ok());
    shards.next().unwrap_or(0)
}

/// Returns a variable of the environment.
fn setting<T>(name: &str, default: T) -> Result<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    match env::var(name) {
        Ok(value) => value.parse().with_context(|| format!("{name} is invalid")),
        Err(_) => Ok(default),
    }
}
