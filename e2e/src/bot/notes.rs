//! What happens to the shards, one line of JSON for each event.

use std::io::{self, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use gateway_queue_client::HttpQueue;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use twilight_gateway_queue::Queue;

/// An event in the life of a shard.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event {
    /// It asked the queue for its turn.
    Asked,
    /// It may identify.
    Granted,
    /// It stopped waiting for its turn.
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

/// Prints the event of a shard.
pub(super) fn note(shard: u32, event: &Event) {
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
        // When nobody reads any more there is nobody to tell.
        Ok(line) => drop(writeln!(io::stdout().lock(), "{line}")),
        Err(error) => tracing::error!(shard, "an event cannot be written: {error}"),
    }
}

/// A queue that notes when each shard asks, and when it is granted its turn.
/// Once the bot stops it asks for none any more.
#[derive(Clone, Debug)]
pub(super) struct NotedQueue {
    queue: HttpQueue,
    stop: CancellationToken,
}

impl NotedQueue {
    pub(super) fn new(queue: HttpQueue, stop: CancellationToken) -> Self {
        Self { queue, stop }
    }
}

impl Queue for NotedQueue {
    fn enqueue(&self, shard: u32) -> oneshot::Receiver<()> {
        let (mut granted, receiver) = oneshot::channel();
        if self.stop.is_cancelled() {
            // twilight connects again when it is not told that a close is
            // complete. The shard waits, on a sender that says nothing.
            tokio::spawn(async move { granted.closed().await });
            return receiver;
        }
        note(shard, &Event::Asked);
        let turn = self.queue.enqueue(shard);
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = granted.closed() => note(shard, &Event::GaveUp),
                turn = turn => if turn.is_ok() {
                    note(shard, &Event::Granted);
                    let _ = granted.send(());
                }
            }
        });
        receiver
    }
}
