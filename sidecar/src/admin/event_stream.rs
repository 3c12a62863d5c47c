//! What those see who watch: the queue as server-sent events.
//!
//! The queue is looked at some times a second, once for all who watch, and not
//! at all when nobody does. The queue task could say when something happened, but
//! not all that is to be seen happens there: a leader lapses, and another falls
//! silent, by time alone. A look at the first shards of each bucket costs the
//! queue task less than what it would have to tell.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{self, Stream};
use gateway_queue_core::queue::snapshot::{About, Snapshot};
use gateway_queue_core::queue::state_json;
use hyper::body::{Bytes, Frame};
use jiff::Timestamp;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, sleep, timeout_at};

use crate::clock::boot_time;

/// Between two looks, and so between two events.
const PACE: Duration = Duration::from_millis(250);

/// So often something is sent at least. An event and no comment, which would
/// reach no script: who watches must see that nothing comes any more.
const ALIVE: Duration = Duration::from_secs(10);

/// One more ends the oldest. (A browser comes back by itself.)
const MOST_WATCHERS: usize = 16;

/// How soon a browser is to come back.
const FIRST: &str = "retry: 2000\n\n";

/// See the module.
#[derive(Debug)]
pub(crate) struct Feed {
    latest: watch::Sender<Option<Arc<Snapshot>>>,
    /// Each of those who watch is ended when its sender is dropped.
    watchers: Mutex<VecDeque<oneshot::Sender<Infallible>>>,
    somebody: Notify,
}

/// One who watches.
struct Watcher {
    latest: watch::Receiver<Option<Arc<Snapshot>>>,
    ended: oneshot::Receiver<Infallible>,
    about: Arc<About>,
    alive_at: Instant,
    greeted: bool,
}

impl Feed {
    pub(crate) fn new() -> Self {
        Self {
            latest: watch::Sender::new(None),
            watchers: Mutex::default(),
            somebody: Notify::new(),
        }
    }

    /// Looks while somebody watches, for ever.
    pub(crate) async fn run<F>(&self, look: impl Fn() -> F)
    where
        F: Future<Output = Option<Snapshot>>,
    {
        loop {
            if self.latest.receiver_count() == 0 {
                // The next who comes is shown nothing old.
                self.latest.send_replace(None);
                self.somebody.notified().await;
                continue;
            }
            if let Some(mut snapshot) = look().await {
                snapshot.shorten();
                self.latest.send_if_modified(|latest| {
                    let news = match latest {
                        Some(before) => snapshot.has_changed_since(before),
                        None => true,
                    };
                    if news {
                        *latest = Some(Arc::new(snapshot));
                    }
                    news
                });
            }
            sleep(PACE).await;
        }
    }

    /// The stream for one more who watches.
    pub(crate) fn watch(
        &self,
        about: Arc<About>,
    ) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + use<> {
        let (sender, ended) = oneshot::channel();
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|watcher| !watcher.is_closed());
        if watchers.len() >= MOST_WATCHERS {
            watchers.pop_front();
        }
        watchers.push_back(sender);
        drop(watchers);
        let mut latest = self.latest.subscribe();
        latest.mark_changed();
        self.somebody.notify_one();
        let watcher = Watcher {
            latest,
            ended,
            about,
            alive_at: Instant::now() + ALIVE,
            greeted: false,
        };
        stream::unfold(watcher, async |mut watcher| {
            let event = watcher.next().await?;
            Some((Ok(Frame::data(event.into())), watcher))
        })
    }
}

impl Watcher {
    /// The next event; none when it is over.
    async fn next(&mut self) -> Option<String> {
        if !self.greeted {
            self.greeted = true;
            return Some(FIRST.to_owned());
        }
        let event = tokio::select! {
            _ = &mut self.ended => return None,
            news = timeout_at(self.alive_at, news(&mut self.latest)) => match news {
                Ok(None) => return None,
                Ok(Some(snapshot)) => state_event(&snapshot, &self.about)?,
                Err(_) => "event: alive\ndata: {}\n\n".to_owned(),
            },
        };
        self.alive_at = Instant::now() + ALIVE;
        Some(event)
    }
}

async fn news(latest: &mut watch::Receiver<Option<Arc<Snapshot>>>) -> Option<Arc<Snapshot>> {
    loop {
        latest.changed().await.ok()?;
        if let Some(snapshot) = latest.borrow_and_update().clone() {
            return Some(snapshot);
        }
    }
}

fn state_event(snapshot: &Snapshot, about: &About) -> Option<String> {
    // Nothing has changed since but the time.
    let mut snapshot = snapshot.clone();
    snapshot.taken = boot_time::now();
    let json = state_json::json(&snapshot, about, Timestamp::now()).ok()?;
    Some(format!("event: state\ndata: {json}\n\n"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future;
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::StreamExt as _;
    use tokio::time::advance;

    use super::*;
    use gateway_queue_core::testing::{about, leader};

    /// The text of the next event, as it comes.
    macro_rules! next {
        ($stream:expr) => {
            $stream.next().await.map(|event| {
                let data = event.unwrap().into_data().unwrap();
                String::from_utf8(data.to_vec()).unwrap()
            })
        };
    }

    #[tokio::test(start_paused = true)]
    async fn what_changed_is_sent_and_in_between_a_sign_of_life() {
        let feed = Feed::new();
        let waiting = AtomicUsize::new(1);
        let watching = async {
            let mut stream = pin!(feed.watch(Arc::new(about())));
            assert_eq!(next!(stream).unwrap(), FIRST);
            let first = next!(stream).unwrap();
            assert!(first.starts_with("event: state\ndata: {\"role\":\"leader\","));
            let started = Instant::now();
            assert!(next!(stream).unwrap().starts_with("event: alive\n"));
            assert_eq!(started.elapsed(), ALIVE);
            waiting.store(2, Ordering::Relaxed);
            assert!(next!(stream).unwrap().contains(r#""waiting":2,"#));
            assert!(started.elapsed() <= ALIVE + PACE);
        };
        let look = || future::ready(Some(leader(&[waiting.load(Ordering::Relaxed)])));
        tokio::select! {
            () = watching => {}
            () = feed.run(look) => unreachable!(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_looks_while_nobody_watches() {
        let feed = Feed::new();
        let looks = AtomicUsize::new(0);
        let minute = Duration::from_secs(60);
        let story = async {
            sleep(minute).await;
            assert_eq!(looks.load(Ordering::Relaxed), 0);
            {
                let mut stream = pin!(feed.watch(Arc::new(about())));
                while !next!(stream).unwrap().starts_with("event: state") {}
            }
            sleep(minute).await;
            let after = looks.load(Ordering::Relaxed);
            advance(minute).await;
            sleep(minute).await;
            assert_eq!(looks.load(Ordering::Relaxed), after);
            assert!((1..=2).contains(&after), "{after}");
        };
        let look = || {
            looks.fetch_add(1, Ordering::Relaxed);
            future::ready(Some(leader(&[1])))
        };
        tokio::select! {
            () = story => {}
            () = feed.run(look) => unreachable!(),
        }
    }

    #[tokio::test]
    async fn one_too_many_ends_the_oldest_and_those_who_left_do_not_count() {
        let feed = Feed::new();
        let watch = || Box::pin(feed.watch(Arc::new(about())));
        let mut first = watch();
        let mut second = watch();
        for _ in 0..MOST_WATCHERS * 2 {
            drop(watch());
        }
        let rest: Vec<_> = (2..MOST_WATCHERS).map(|_| watch()).collect();
        assert_eq!(next!(first).unwrap(), FIRST);
        assert_eq!(next!(second).unwrap(), FIRST);
        let _last = watch();
        assert_eq!(next!(first), None);
        let second = tokio::time::timeout(Duration::from_millis(20), second.next()).await;
        assert!(second.is_err());
        drop(rest);
    }
}
