//! The events of the shards, one line of JSON each.

use std::io::{self, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use gateway_queue_client::HttpQueue;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use twilight_gateway_queue::Queue;

/// An event of a shard.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event {
    /// It sent a request to the queue.
    Asked,
    /// It may identify.
    Granted,
    /// It stopped waiting.
    GaveUp,
    Ready,
    Resumed,
    /// Discord refused the identify, or ended the session.
    InvalidSession {
        resumable: bool,
    },
    Closed {
        code: Option<u16>,
    },
    Failed {
        error: String,
    },
}

/// Prints an event.
pub(super) fn log(shard: u32, event: &Event) {
    #[derive(Serialize)]
    struct Line<'a> {
        t: u128,
        shard: u32,
        #[serde(flatten)]
        event: &'a Event,
    }
    let t = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |unix| unix.as_millis());
    match serde_json::to_string(&Line { t, shard, event }) {
        // The reader may have gone.
        Ok(line) => drop(writeln!(io::stdout().lock(), "{line}")),
        Err(error) => tracing::error!(shard, "cannot serialize an event: {error}"),
    }
}

/// A queue that logs each request and each grant. It sends no requests once the bot stops.
#[derive(Clone, Debug)]
pub(super) struct LoggedQueue {
    queue: HttpQueue,
    stop: CancellationToken,
}

impl LoggedQueue {
    pub(super) fn new(queue: HttpQueue, stop: CancellationToken) -> Self {
        Self { queue, stop }
    }
}

impl Queue for LoggedQueue {
    fn enqueue(&self, shard: u32) -> oneshot::Receiver<()> {
        let (mut granted, receiver) = oneshot::channel();
        if self.stop.is_cancelled() {
            // twilight reconnects if the close was not acknowledged. The shard then waits for a
            // grant that does not come.
            tokio::spawn(async move { granted.closed().await });
            return receiver;
        }
        log(shard, &Event::Asked);
        let grant = self.queue.enqueue(shard);
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = granted.closed() => log(shard, &Event::GaveUp),
                grant = grant => if grant.is_ok() {
                    log(shard, &Event::Granted);
                    let _ = granted.send(());
                }
            }
        });
        receiver
    }
}
