//! The requests for a grant.

use reqwest::StatusCode;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::backoff::Backoff;
use crate::server::{Server, with_causes};

/// Why a request has no usable response.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the response has status {0}")]
    Status(StatusCode),
    #[error("{}", with_causes(.0))]
    Transport(#[from] reqwest::Error),
}

/// Requests a grant for `shard` until it is received or the shard stops waiting. Does not drop the
/// channel before that: a shard treats it as a failure and enqueues again immediately.
pub(crate) async fn wait(server: Server, shard: u32, mut granted: oneshot::Sender<()>) {
    let asked = Instant::now();
    tokio::select! {
        biased;
        () = granted.closed() => {
            tracing::debug!(shard, "the shard stopped waiting");
        }
        () = grant(&server, shard) => {
            tracing::debug!(shard, waited = ?asked.elapsed(), "the shard may identify");
            // If the shard has just stopped waiting, nothing can be undone.
            let _ = granted.send(());
        }
    }
}

async fn grant(server: &Server, shard: u32) {
    let mut backoff = Backoff::new();
    loop {
        let asked = Instant::now();
        let Err(failure) = ask(server, shard).await else {
            return;
        };
        let pause = backoff.after(asked.elapsed(), fastrand::f64());
        tracing::warn!(shard, again_in = ?pause, "no grant from the queue: {failure}");
        sleep(pause).await;
    }
}

/// Sends one request. Only a complete response is a grant: if the connection breaks before, the
/// server may not count it.
async fn ask(server: &Server, shard: u32) -> Result<(), Failure> {
    let mut response = server.get(shard).send().await?;
    if !response.status().is_success() {
        return Err(Failure::Status(response.status()));
    }
    while response.chunk().await?.is_some() {}
    Ok(())
}
