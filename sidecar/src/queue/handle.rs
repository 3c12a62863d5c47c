//! The handle to the queue task.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use gateway_queue_core::leadership::term::Term;
use gateway_queue_core::lease_state::Handover;
use gateway_queue_core::pacing::pacer::WaiterId;
use gateway_queue_core::protocol::refusal::Refusal;
use gateway_queue_core::protocol::request::{Report, Shard};
use gateway_queue_core::queue::snapshot::{Detail, Snapshot};
use gateway_queue_core::time::Moment;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::queue::messages::{Event, Permit};

/// The result of waiting.
#[derive(Debug)]
pub enum Decision {
    /// The grant.
    Granted(Permit),
    /// No grant in time.
    Refused(Refusal),
    /// This process is no longer the leader: forward the request.
    Moved,
}

impl From<Option<Permit>> for Decision {
    fn from(permit: Option<Permit>) -> Self {
        permit.map_or(Self::Moved, Self::Granted)
    }
}

/// A handle to the queue task. Its channel is unbounded, because a destructor must be able
/// to send. The waiters are bounded: each holds a connection permit until the queue task has
/// granted it or has handled its end, and has only a few events in the channel. So does each report.
#[derive(Clone, Debug)]
pub struct Handle {
    events: UnboundedSender<Event>,
    last: Arc<AtomicU64>,
    connection_permits: Arc<Semaphore>,
}

/// A waiter. It resolves to the permit when it is granted, or to none if this process is no
/// longer the leader. If it is dropped before that, the waiter has disconnected.
#[derive(Debug)]
pub struct Waiting {
    waiter: WaiterId,
    permit: oneshot::Receiver<Permit>,
    events: UnboundedSender<Event>,
    done: bool,
}

impl Handle {
    /// Returns a handle for at most `max_waiters`, the sender for permits, and the receiver.
    pub(crate) fn new(
        max_waiters: usize,
    ) -> (Self, UnboundedSender<Event>, UnboundedReceiver<Event>) {
        let (events, receiver) = unbounded_channel();
        let handle = Self {
            events: events.clone(),
            last: Arc::default(),
            connection_permits: Arc::new(Semaphore::new(max_waiters)),
        };
        (handle, events, receiver)
    }

    /// Joins the queue, as soon as a connection permit is free. Returns none if the queue task has ended.
    pub async fn enqueue(&self, shard: impl Into<Shard>, arrived: Moment) -> Option<Waiting> {
        let shard = shard.into();
        let connection_permit = match Arc::clone(&self.connection_permits).try_acquire_owned() {
            Ok(permit) => permit,
            // Rare, and boxed because it would enlarge the future of every waiter.
            Err(_) => Box::pin(Arc::clone(&self.connection_permits).acquire_owned())
                .await
                .ok()?,
        };
        let waiter = WaiterId(self.last.fetch_add(1, Ordering::Relaxed));
        let (sender, permit) = oneshot::channel();
        let offer = Event::Offer {
            waiter,
            shard,
            arrived,
            permit: sender,
            _connection_permit: connection_permit,
        };
        self.events.send(offer).ok()?;
        Some(Waiting {
            waiter,
            permit,
            events: self.events.clone(),
            done: false,
        })
    }

    /// Joins the queue and waits for the grant. Returns none if the queue task has ended.
    pub async fn wait(&self, shard: impl Into<Shard>, arrived: Moment) -> Option<Decision> {
        let waiting = self.enqueue(shard, arrived).await?;
        Some(Decision::from(waiting.await))
    }

    /// Joins the queue until `deadline`. A grant that is available immediately is given even
    /// if the deadline has passed. Returns none if the queue task has ended.
    pub async fn wait_until(
        &self,
        deadline: Instant,
        shard: impl Into<Shard>,
        arrived: Moment,
    ) -> Option<Decision> {
        // A permit is free, unless the queue task is far behind.
        let mut waiting = self.enqueue(shard, arrived).await?;
        if let Ok(permit) = timeout_at(deadline, &mut waiting).await {
            return Some(Decision::from(permit));
        }
        let (sender, refusal) = oneshot::channel();
        let _ = self.events.send(Event::GiveUp(waiting.waiter, sender));
        match refusal.await {
            Ok(refusal) => {
                waiting.done = true;
                Some(Decision::Refused(refusal))
            }
            Err(_) => Some(Decision::from(waiting.await)),
        }
    }

    /// Passes on the report of a shard, if a connection permit is free. Returns whether it was.
    pub fn report(&self, shard: u32, report: Report) -> bool {
        let permits = Arc::clone(&self.connection_permits);
        let Ok(connection_permit) = permits.try_acquire_owned() else {
            return false;
        };
        let event = Event::Report {
            shard,
            report,
            _connection_permit: connection_permit,
        };
        self.events.send(event).is_ok()
    }

    /// Returns the handover to the next leader of this Lease, once no grant is in flight.
    /// Returns none if the queue task has ended.
    pub async fn handover(&self, lease: &str, term: Term) -> Option<Handover> {
        let (sender, handover) = oneshot::channel();
        self.events
            .send(Event::Handover(lease.to_owned(), term, sender))
            .ok()?;
        handover.await.ok()
    }

    /// Returns a snapshot of the queue, or none if the queue task has ended.
    pub async fn look(&self, detail: Detail) -> Option<Snapshot> {
        let (sender, snapshot) = oneshot::channel();
        self.events.send(Event::Look(detail, sender)).ok()?;
        snapshot.await.ok()
    }
}

impl Future for Waiting {
    type Output = Option<Permit>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let permit = Pin::new(&mut self.permit).poll(cx);
        permit.map(|permit| {
            self.done = true;
            permit.ok()
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.done {
            let _ = self.events.send(Event::Disconnected(self.waiter));
        }
    }
}
