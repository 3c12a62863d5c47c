//! The way to the keeper, for those who wait and those who look.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::timeout;

use crate::moment::Moment;
use crate::pacer::{Grant, WaiterId};
use crate::permit::Permit;
use crate::refusal::Refusal;
use crate::state::Snapshot;

/// A connection's place among all connections. What the keeper has not dealt
/// with yet holds it, too, so that clients who come and go faster than the
/// keeper works cannot pile up events.
pub type Seat = Arc<OwnedSemaphorePermit>;

/// Something happened to a waiter, or somebody wants to know.
#[derive(Debug)]
pub(crate) enum Event {
    Offer {
        waiter: WaiterId,
        shard: u32,
        turn: oneshot::Sender<Permit>,
        seat: Seat,
    },
    Gone(WaiterId),
    /// Its patience is over. The sender is dropped when its turn has come.
    GiveUp(WaiterId, oneshot::Sender<Refusal>),
    Written {
        grant: Grant,
        at: Moment,
    },
    Unwritten(WaiterId),
    Look(Detail, oneshot::Sender<Snapshot>),
}

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// How many wait in each bucket.
    Numbers,
    /// Also which shards. That takes a moment when many wait.
    Shards,
}

/// What came of waiting for a limited time.
#[derive(Debug)]
pub enum Turn {
    /// It is the waiter's turn.
    Granted(Permit),
    /// Not in time.
    Refused(Refusal),
}

/// A way to the keeper. Its channel has no bound of its own: each [`Seat`] has
/// at most three events in it, and the seats are bounded.
#[derive(Clone, Debug)]
pub struct Handle {
    events: UnboundedSender<Event>,
    last: Arc<AtomicU64>,
}

/// A waiter. It resolves to the permit when its turn has come, or to none when
/// the keeper is gone. Dropped before that, the waiter has gone away.
#[derive(Debug)]
pub struct Waiting {
    waiter: WaiterId,
    turn: oneshot::Receiver<Permit>,
    events: UnboundedSender<Event>,
    done: bool,
}

impl Handle {
    /// A way, and its end: the first one is for the keeper's permits.
    pub(crate) fn new() -> (Self, UnboundedSender<Event>, UnboundedReceiver<Event>) {
        let (events, receiver) = unbounded_channel();
        let handle = Self {
            events: events.clone(),
            last: Arc::default(),
        };
        (handle, events, receiver)
    }

    /// Joins the queue.
    pub fn enqueue(&self, shard: u32, seat: Seat) -> Waiting {
        let waiter = WaiterId(self.last.fetch_add(1, Ordering::Relaxed));
        let (sender, turn) = oneshot::channel();
        // Without a keeper the sender is dropped, and the waiter is told so.
        let _ = self.events.send(Event::Offer {
            waiter,
            shard,
            turn: sender,
            seat,
        });
        Waiting {
            waiter,
            turn,
            events: self.events.clone(),
            done: false,
        }
    }

    /// Joins the queue for at most `wait`; none when the keeper is gone. A turn
    /// that may be had at once is had even when `wait` is nothing.
    pub async fn enqueue_for(&self, wait: Duration, shard: u32, seat: Seat) -> Option<Turn> {
        let mut waiting = self.enqueue(shard, seat);
        if let Ok(permit) = timeout(wait, &mut waiting).await {
            return permit.map(Turn::Granted);
        }
        let (sender, refusal) = oneshot::channel();
        let _ = self.events.send(Event::GiveUp(waiting.waiter, sender));
        match refusal.await {
            Ok(refusal) => {
                waiting.done = true;
                Some(Turn::Refused(refusal))
            }
            Err(_) => waiting.await.map(Turn::Granted),
        }
    }

    /// Looks at the queue; none when the keeper is gone.
    pub async fn look(&self, detail: Detail) -> Option<Snapshot> {
        let (sender, snapshot) = oneshot::channel();
        self.events.send(Event::Look(detail, sender)).ok()?;
        snapshot.await.ok()
    }
}

impl Future for Waiting {
    type Output = Option<Permit>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let turn = Pin::new(&mut self.turn).poll(cx);
        turn.map(|permit| {
            self.done = true;
            permit.ok()
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.done {
            let _ = self.events.send(Event::Gone(self.waiter));
        }
    }
}
