//! The state of the queue as server-sent events.
//!
//! While clients watch, the queue is polled a few times a second, once for all of them. The
//! queue task could report its changes, but some things change with time alone: a leader
//! expires, or stops responding. A snapshot of the first shards of each bucket also costs
//! the queue task less than its reports would.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt as _};
use gateway_queue_core::queue::snapshot::{About, Snapshot};
use gateway_queue_core::queue::state_json;
use hyper::body::{Bytes, Frame};
use jiff::Timestamp;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, sleep, timeout_at};

use crate::clock::boot_time;

/// The time between two snapshots, and so between two events.
const INTERVAL: Duration = Duration::from_millis(250);

/// The longest time without an event. Scripts notice by it that the stream is broken; they
/// do not receive comments.
const ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// One more ends the oldest. (A browser reconnects by itself.)
const MAX_WATCHERS: usize = 16;

/// The first event: how many milliseconds a browser waits before it reconnects.
const FIRST: &str = "retry: 2000\n\n";

/// The latest snapshot and its watchers.
#[derive(Debug)]
pub(crate) struct Feed {
    latest: watch::Sender<Option<Arc<Snapshot>>>,
    /// A watcher ends when its sender is dropped.
    watchers: Mutex<VecDeque<oneshot::Sender<Infallible>>>,
    /// Notified when a client starts to watch.
    watched: Notify,
}

/// A client that watches.
struct Watcher {
    latest: watch::Receiver<Option<Arc<Snapshot>>>,
    ended: oneshot::Receiver<Infallible>,
    about: Arc<About>,
    alive_at: Instant,
}

impl Feed {
    pub(crate) fn new() -> Self {
        Self {
            latest: watch::Sender::new(None),
            watchers: Mutex::default(),
            watched: Notify::new(),
        }
    }

    /// Takes snapshots while a client watches, until it is dropped.
    pub(crate) async fn run<F>(&self, take: impl Fn() -> F)
    where
        F: Future<Output = Option<Snapshot>>,
    {
        loop {
            if self.latest.receiver_count() == 0 {
                // The next watcher must not receive an old snapshot.
                self.latest.send_replace(None);
                self.watched.notified().await;
                continue;
            }
            if let Some(mut snapshot) = take().await {
                snapshot.shorten();
                self.latest.send_if_modified(|latest| {
                    let before = latest.as_ref();
                    let is_new = before.is_none_or(|before| snapshot.has_changed_since(before));
                    if is_new {
                        *latest = Some(Arc::new(snapshot));
                    }
                    is_new
                });
            }
            sleep(INTERVAL).await;
        }
    }

    /// Returns the stream for one more watcher.
    pub(crate) fn watch(
        &self,
        about: Arc<About>,
    ) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + use<> {
        let (sender, ended) = oneshot::channel();
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|watcher| !watcher.is_closed());
        if watchers.len() >= MAX_WATCHERS {
            watchers.pop_front();
        }
        watchers.push_back(sender);
        drop(watchers);
        let mut latest = self.latest.subscribe();
        latest.mark_changed();
        self.watched.notify_one();
        let watcher = Watcher {
            latest,
            ended,
            about,
            alive_at: Instant::now() + ALIVE_INTERVAL,
        };
        let first = stream::iter([FIRST.to_owned()]);
        let events = stream::unfold(watcher, async |mut watcher| {
            Some((watcher.next().await?, watcher))
        });
        first
            .chain(events)
            .map(|event| Ok(Frame::data(event.into())))
    }
}

impl Watcher {
    /// Returns the next event, or none at the end.
    async fn next(&mut self) -> Option<String> {
        let event = tokio::select! {
            _ = &mut self.ended => return None,
            new = timeout_at(self.alive_at, next(&mut self.latest)) => match new {
                Ok(None) => return None,
                Ok(Some(snapshot)) => state_event(&snapshot, &self.about)?,
                Err(_) => "event: alive\ndata: {}\n\n".to_owned(),
            },
        };
        self.alive_at = Instant::now() + ALIVE_INTERVAL;
        Some(event)
    }
}

async fn next(latest: &mut watch::Receiver<Option<Arc<Snapshot>>>) -> Option<Arc<Snapshot>> {
    loop {
        latest.changed().await.ok()?;
        if let Some(snapshot) = latest.borrow_and_update().clone() {
            return Some(snapshot);
        }
    }
}

fn state_event(snapshot: &Snapshot, about: &About) -> Option<String> {
    // Only the time has changed since.
    let mut snapshot = snapshot.clone();
    snapshot.taken = boot_time::now();
    let json = state_json::json(&snapshot, about, Timestamp::now()).ok()?;
    Some(format!("event: state\ndata: {json}\n\n"))
}

#[cfg(test)]
mod tests {
    use std::future;
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::advance;

    use super::*;
    use gateway_queue_core::testing::{about, leader};

    /// The text of the next event.
    macro_rules! next {
        ($stream:expr) => {
            $stream.next().await.map(|event| {
                let data = event.unwrap().into_data().unwrap();
                String::from_utf8(data.to_vec()).unwrap()
            })
        };
    }

    #[tokio::test(start_paused = true)]
    async fn changes_are_sent_and_otherwise_a_periodic_event() {
        let feed = Feed::new();
        let waiting = AtomicUsize::new(1);
        let watching = async {
            let mut stream = pin!(feed.watch(Arc::new(about())));
            assert_eq!(next!(stream).unwrap(), FIRST);
            let first = next!(stream).unwrap();
            assert!(first.starts_with("event: state\ndata: {\"role\":\"leader\","));
            let started = Instant::now();
            assert!(next!(stream).unwrap().starts_with("event: alive\n"));
            assert_eq!(started.elapsed(), ALIVE_INTERVAL);
            waiting.store(2, Ordering::Relaxed);
            assert!(next!(stream).unwrap().contains(r#""waiting":2,"#));
            assert!(started.elapsed() <= ALIVE_INTERVAL + INTERVAL);
        };
        let take = || future::ready(Some(leader(&[waiting.load(Ordering::Relaxed)])));
        tokio::select! {
            () = watching => {}
            () = feed.run(take) => unreachable!(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_snapshot_is_taken_while_no_client_watches() {
        let feed = Feed::new();
        let snapshots = AtomicUsize::new(0);
        let minute = Duration::from_secs(60);
        let story = async {
            sleep(minute).await;
            assert_eq!(snapshots.load(Ordering::Relaxed), 0);
            {
                let mut stream = pin!(feed.watch(Arc::new(about())));
                while !next!(stream).unwrap().starts_with("event: state") {}
            }
            sleep(minute).await;
            let after = snapshots.load(Ordering::Relaxed);
            advance(minute).await;
            sleep(minute).await;
            assert_eq!(snapshots.load(Ordering::Relaxed), after);
            assert!((1..=2).contains(&after), "{after}");
        };
        let take = || {
            snapshots.fetch_add(1, Ordering::Relaxed);
            future::ready(Some(leader(&[1])))
        };
        tokio::select! {
            () = story => {}
            () = feed.run(take) => unreachable!(),
        }
    }

    #[tokio::test]
    async fn one_watcher_too_many_ends_the_oldest_of_those_connected() {
        let feed = Feed::new();
        let watch = || Box::pin(feed.watch(Arc::new(about())));
        let mut first = watch();
        let mut second = watch();
        for _ in 0..MAX_WATCHERS * 2 {
            drop(watch());
        }
        let rest: Vec<_> = (2..MAX_WATCHERS).map(|_| watch()).collect();
        assert_eq!(next!(first).unwrap(), FIRST);
        assert_eq!(next!(second).unwrap(), FIRST);
        let _last = watch();
        assert_eq!(next!(first), None);
        let second = tokio::time::timeout(Duration::from_millis(20), second.next()).await;
        assert!(second.is_err());
        drop(rest);
    }
}
