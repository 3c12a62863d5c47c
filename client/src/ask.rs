//! The requests for a grant.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::backoff::Backoff;
use crate::server::{Server, with_causes};

/// How long one request waits. Many proxies end a request that takes 60 s.
const WAIT_SECONDS: &str = "45";

/// The bounds of the pause that the server asks for. It reserves the position of the shard for
/// longer than that.
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// The response of the server.
enum Response {
    /// The shard may identify.
    Granted,
    /// The shard has to wait longer, and should ask again after this pause.
    Waiting(Duration),
}

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
        let pause = match ask(server, shard).await {
            Ok(Response::Granted) => return,
            Ok(Response::Waiting(pause)) => {
                tracing::debug!(shard, again_in = ?pause, "the shard has to wait longer");
                backoff = Backoff::new();
                pause
            }
            Err(failure) => {
                let pause = backoff.after(asked.elapsed(), fastrand::f64());
                tracing::warn!(shard, again_in = ?pause, "no grant from the queue: {failure}");
                pause
            }
        };
        sleep(pause).await;
    }
}

/// Sends one request. Only a complete response is a grant: if the connection breaks before, the
/// server may not count it.
async fn ask(server: &Server, shard: u32) -> Result<Response, Failure> {
    let mut response = server.get(shard, "wait", WAIT_SECONDS).send().await?;
    let status = response.status();
    if status == StatusCode::TOO_MANY_REQUESTS
        && let Some(pause) = pause(response.headers())
    {
        return Ok(Response::Waiting(pause));
    }
    if !status.is_success() {
        return Err(Failure::Status(status));
    }
    while response.chunk().await?.is_some() {}
    Ok(Response::Granted)
}

/// Returns the pause that a response asks for.
fn pause(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.parse::<u64>().ok();
    let exact = number("x-retry-after-ms").map(Duration::from_millis);
    let pause = exact.or_else(|| number("retry-after").map(Duration::from_secs))?;
    Some(pause.clamp(MIN_PAUSE, MAX_PAUSE))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reqwest::header::HeaderMap;

    use super::pause;

    #[test]
    fn the_exact_pause_comes_first_and_is_bounded() {
        for (exact, seconds, expected) in [
            (Some("1500"), Some("2"), Some(1500)),
            (None, Some("2"), Some(2000)),
            (Some("soon"), Some("2"), Some(2000)),
            (Some("0"), None, Some(100)),
            (None, Some("900"), Some(10_000)),
            (None, Some("18446744073709551615"), Some(10_000)),
            (None, Some("Fri, 27 Nov 2026 12:00:00 GMT"), None),
            (None, Some("-1"), None),
            (None, None, None),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [("x-retry-after-ms", exact), ("retry-after", seconds)] {
                if let Some(value) = value {
                    headers.insert(name, value.parse().unwrap());
                }
            }
            let expected = expected.map(Duration::from_millis);
            assert_eq!(pause(&headers), expected, "{headers:?}");
        }
    }
}
