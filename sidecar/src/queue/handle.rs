//! The way to the queue task, for those who wait and those who look.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use gateway_queue_core::leadership::term::Term;
use gateway_queue_core::lease_state::Handover;
use gateway_queue_core::pacing::pacer::WaiterId;
use gateway_queue_core::protocol::refusal::Refusal;
use gateway_queue_core::queue::snapshot::{Detail, Snapshot};
use gateway_queue_core::time::Moment;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::queue::messages::{Event, Permit};

/// What came of waiting.
#[derive(Debug)]
pub enum Turn {
    /// It is the waiter's turn.
    Granted(Permit),
    /// Not in time.
    Refused(Refusal),
    /// This process leads no more: ask the next leader.
    Moved,
}

impl From<Option<Permit>> for Turn {
    fn from(permit: Option<Permit>) -> Self {
        permit.map_or(Self::Moved, Self::Granted)
    }
}

/// A way to the queue task. Its channel has no bound of its own, since who ends must
/// be able to say so at once. The waiters are bounded: each holds a seat until
/// the queue task has given it its turn or has dealt with its end, and none has more
/// than a few events in there.
#[derive(Clone, Debug)]
pub struct Handle {
    events: UnboundedSender<Event>,
    last: Arc<AtomicU64>,
    seats: Arc<Semaphore>,
}

/// A waiter. It resolves to the permit when its turn has come, or to none when
/// this process leads no more. Dropped before that, the waiter has gone away.
#[derive(Debug)]
pub struct Waiting {
    waiter: WaiterId,
    turn: oneshot::Receiver<Permit>,
    events: UnboundedSender<Event>,
    done: bool,
}

impl Handle {
    /// A way for at most `most` waiters, and its ends: the first one is for
    /// the queue task's permits.
    pub(crate) fn new(most: usize) -> (Self, UnboundedSender<Event>, UnboundedReceiver<Event>) {
        let (events, receiver) = unbounded_channel();
        let handle = Self {
            events: events.clone(),
            last: Arc::default(),
            seats: Arc::new(Semaphore::new(most)),
        };
        (handle, events, receiver)
    }

    /// Joins the queue, as soon as there is a seat; none when the queue task is
    /// gone.
    pub async fn enqueue(&self, shard: u32, arrived: Moment) -> Option<Waiting> {
        let seat = match Arc::clone(&self.seats).try_acquire_owned() {
            Ok(seat) => seat,
            // Seldom; and it would take memory of all who wait.
            Err(_) => Box::pin(Arc::clone(&self.seats).acquire_owned())
                .await
                .ok()?,
        };
        let waiter = WaiterId(self.last.fetch_add(1, Ordering::Relaxed));
        let (sender, turn) = oneshot::channel();
        let offer = Event::Offer {
            waiter,
            shard,
            arrived,
            turn: sender,
            seat,
        };
        self.events.send(offer).ok()?;
        Some(Waiting {
            waiter,
            turn,
            events: self.events.clone(),
            done: false,
        })
    }

    /// Joins the queue, and waits as long as it takes; none when the queue task is
    /// gone.
    pub async fn turn(&self, shard: u32, arrived: Moment) -> Option<Turn> {
        let waiting = self.enqueue(shard, arrived).await?;
        Some(Turn::from(waiting.await))
    }

    /// Joins the queue until `deadline`; none when the queue task is gone. A turn that
    /// may be had at once is had even when it has passed.
    pub async fn turn_until(&self, deadline: Instant, shard: u32, arrived: Moment) -> Option<Turn> {
        // A seat is there at once, unless the queue task is far behind.
        let mut waiting = self.enqueue(shard, arrived).await?;
        if let Ok(permit) = timeout_at(deadline, &mut waiting).await {
            return Some(Turn::from(permit));
        }
        let (sender, refusal) = oneshot::channel();
        let _ = self.events.send(Event::GiveUp(waiting.waiter, sender));
        match refusal.await {
            Ok(refusal) => {
                waiting.done = true;
                Some(Turn::Refused(refusal))
            }
            Err(_) => Some(Turn::from(waiting.await)),
        }
    }

    /// What the next leader of this Lease must know after this term; none when
    /// the queue task is gone.
    pub async fn handover(&self, lease: &str, term: Term) -> Option<Handover> {
        let (sender, left) = oneshot::channel();
        self.events
            .send(Event::Handover(lease.to_owned(), term, sender))
            .ok()?;
        left.await.ok()
    }

    /// Looks at the queue; none when the queue task is gone.
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
