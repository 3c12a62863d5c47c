//! The task that owns the queue. Everything that happens comes in as an event,
//! in one channel, in order.
//!
//! What is decided is decided by `term_queue`; this moves events, permits,
//! alarms and logs. When a term ends, its waiters are sent to the next leader.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::{future, io};

use gateway_queue_core::bot_token::Current;
use gateway_queue_core::gateway_bot::{Limits, MAX_BUCKETS};
use gateway_queue_core::leadership::state::LeadershipState;
use gateway_queue_core::leadership::term::Term;
use gateway_queue_core::lease_state::last_known::Page;
use gateway_queue_core::lease_state::{BlockedBy, Handover};
use gateway_queue_core::pacing::fetch_schedule::Outcome;
use gateway_queue_core::pacing::pacer::{Grant, WaiterId};
use gateway_queue_core::pacing::scheduler::{Config, Learned};
use gateway_queue_core::queue::term_queue::{TermQueue, TokenChange};
use gateway_queue_core::time::Moment;
use gateway_queue_telemetry::{ms, us};
use jiff::Timestamp;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tracing::{debug, info, warn};

use crate::clock::boot_time::{self, Alarm};
use crate::discord::api::Discord;
use crate::metrics::Metrics;
use crate::queue::handle::Handle;
use crate::queue::messages::{Event, Permit};

/// How many events are taken before the turns are looked at again.
const BATCH: usize = 256;

/// One who waits for its turn.
struct Waiter {
    turn: oneshot::Sender<Permit>,
    _seat: OwnedSemaphorePermit,
}

/// See the module.
pub struct QueueTask {
    queue: TermQueue,
    standing: watch::Receiver<LeadershipState>,
    /// Who wants to know what is left, when no grant is on its way any more.
    leaving: Option<(String, Term, oneshot::Sender<Handover>)>,
    alarm: Alarm,
    waiters: HashMap<WaiterId, Waiter>,
    events: UnboundedReceiver<Event>,
    /// To make permits with.
    reports: UnboundedSender<Event>,
    tokens: watch::Receiver<Current>,
    discord: Discord,
    fetch: Option<Pin<Box<dyn Future<Output = Outcome> + Send>>>,
    /// What was logged last about why nothing is granted.
    logged: Option<Option<BlockedBy>>,
    lease_state: watch::Sender<Page>,
    metrics: Arc<Metrics>,
}

impl QueueTask {
    /// Returns a queue task, and a handle to it for at most `most` waiters. It grants
    /// while `standing` makes this process the leader, and publishes its state to
    /// `lease_state`. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the kernel has no timer.
    pub fn new(
        config: Config,
        most: usize,
        mut standing: watch::Receiver<LeadershipState>,
        mut tokens: watch::Receiver<Current>,
        discord: Discord,
        lease_state: watch::Sender<Page>,
        metrics: Arc<Metrics>,
    ) -> io::Result<(Self, Handle)> {
        let stands = standing.borrow_and_update().clone();
        let token = tokens.borrow_and_update().clone();
        let (handle, reports, events) = Handle::new(most);
        let queue_task = Self {
            queue: TermQueue::new(config, stands, token, boot_time::now()),
            standing,
            leaving: None,
            alarm: Alarm::new()?,
            waiters: HashMap::new(),
            events,
            reports,
            tokens,
            discord,
            fetch: None,
            logged: None,
            lease_state,
            metrics,
        };
        // Whoever reads it first must not read a guess.
        queue_task.publish();
        Ok((queue_task, handle))
    }

    /// Runs for ever.
    ///
    /// # Errors
    ///
    /// When the kernel's timer fails: nothing could be granted in time then.
    pub async fn run(mut self) -> io::Result<()> {
        let mut batch = Vec::with_capacity(BATCH);
        if let Current::Missing(why) = &*self.tokens.borrow() {
            warn!(%why, "there is no token");
        }
        loop {
            self.log_hold();
            self.publish();
            self.give_turns();
            self.fetch_if_due();
            self.log_hold();
            self.publish();
            self.alarm.set(self.queue.wake_at(boot_time::now()))?;
            let fetched = async {
                match &mut self.fetch {
                    Some(fetch) => fetch.await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                _ = self.events.recv_many(&mut batch, BATCH) => {
                    for event in batch.drain(..) {
                        self.take(event);
                    }
                }
                rang = self.alarm.ring() => rang?,
                outcome = fetched => self.fetched(outcome),
                // Errors are what can never change: not awaited then.
                Ok(()) = self.standing.changed() => self.stand(),
                Ok(()) = self.tokens.changed() => self.token_changed(),
            }
        }
    }

    /// Follows the election.
    fn stand(&mut self) {
        let standing = self.standing.borrow_and_update().clone();
        if self.queue.stand(standing, boot_time::now()) {
            // Their turns never come here: they ask the next leader.
            self.waiters.clear();
            self.fetch = None;
            self.logged = None;
        }
    }

    fn take(&mut self, event: Event) {
        // The sender may have seen a newer standing than this task.
        if self.standing.has_changed().unwrap_or(false) {
            self.stand();
        }
        let now = boot_time::now();
        match event {
            Event::Offer {
                waiter,
                shard,
                arrived,
                turn,
                seat: _seat,
            } => {
                // Without a term the sender is dropped, so that the request goes to the leader.
                if let Some(returned) = self.queue.offer(waiter, shard, arrived, now) {
                    self.metrics.reservations_used.inc_by(returned.into());
                    self.waiters.insert(waiter, Waiter { turn, _seat });
                }
            }
            Event::Gone(waiter) => {
                self.waiters.remove(&waiter);
                if self.queue.cancel(waiter, now) {
                    self.metrics.cancelled.inc();
                }
            }
            Event::GiveUp(waiter, sender) => {
                // The bucket may have become free at this moment.
                self.give_turns();
                if let Some(refusal) = self.queue.give_up(waiter, now) {
                    self.waiters.remove(&waiter);
                    self.metrics.refused(refusal.reason.as_str());
                    let _ = sender.send(refusal);
                }
            }
            Event::Written { grant, at } => {
                self.queue.written(&grant, at);
                let (waited, late) = (at.since(grant.arrived), at.since(grant.allowed));
                self.metrics.granted(waited, late);
                let Grant { shard, bucket, .. } = grant;
                let (waited_ms, late_us) = (ms(waited), us(late));
                debug!(shard, bucket, waited_ms, late_us, "granted");
            }
            Event::Unwritten(waiter) => {
                self.queue.unwritten(waiter, now);
                self.metrics.cancelled.inc();
            }
            Event::Look(detail, sender) => {
                let held = u64::try_from(self.metrics.held()).unwrap_or(0);
                let _ = sender.send(self.queue.snapshot(detail, held, now));
            }
            Event::Handover(lease, term, sender) => self.leaving = Some((lease, term, sender)),
        }
        self.hand_over(now);
    }

    fn hand_over(&mut self, now: Moment) {
        if let Some((lease, term, sender)) = self.leaving.take() {
            match self.queue.handover(&lease, &term, now) {
                Some(left) => drop(sender.send(left)),
                None => self.leaving = Some((lease, term, sender)),
            }
        }
    }

    fn give_turns(&mut self) {
        while let Some((grant, until)) = self.queue.grant(boot_time::now()) {
            let permit = Permit::own(grant, until, self.reports.clone());
            // A permit that nobody takes reports that it was not written.
            if let Some(waiter) = self.waiters.remove(&grant.waiter) {
                let _ = waiter.turn.send(permit);
            }
        }
    }

    fn fetch_if_due(&mut self) {
        if let Some(token) = self.queue.fetch_due(boot_time::now()) {
            self.fetch = Some(Box::pin(self.discord.fetch(&token)));
        }
    }

    fn fetched(&mut self, outcome: Outcome) {
        self.fetch = None;
        self.metrics.fetched(&outcome);
        if let Outcome::Limits(limits) = outcome
            && limits.max_concurrency.is_none()
        {
            self.metrics.invalid_max_concurrency.inc();
            warn!("Discord said a max_concurrency that is not 1 to {MAX_BUCKETS}: it is not taken");
        }
        let now = boot_time::now();
        let before = self.queue.limits();
        let learned = self
            .queue
            .fetched(outcome, now, Timestamp::now(), fastrand::f64());
        match learned {
            None => {}
            Some(Learned::Limits {
                limits,
                concurrency_was,
            }) => {
                let Limits {
                    total,
                    remaining,
                    max_concurrency,
                    ..
                } = limits;
                if let Some(was) = concurrency_was {
                    info!(max_concurrency, was, "the number of buckets changed");
                }
                let steady = |before: Limits| {
                    (before.total, before.max_concurrency) == (total, max_concurrency)
                };
                match before.is_some_and(steady) {
                    true => debug!(total, remaining, max_concurrency, "Discord told the limits"),
                    false => info!(total, remaining, max_concurrency, "Discord told the limits"),
                }
            }
            Some(Learned::Trouble) => {
                let why = self.queue.last_error().unwrap_or_default();
                let next_try = self.queue.fetch_at().map(|at| ms(at.since(now)));
                warn!(
                    why,
                    next_try_ms = next_try,
                    "cannot fetch the session starts"
                );
            }
        }
    }

    fn token_changed(&mut self) {
        self.fetch = None;
        let token = self.tokens.borrow_and_update().clone();
        match self.queue.token_changed(token, boot_time::now()) {
            TokenChange::Returned => info!("the token is there again"),
            TokenChange::New => info!("there is a new token"),
            TokenChange::Missing(why) => warn!(%why, "there is no token"),
            TokenChange::None => {}
        }
    }

    /// Logs why nothing is granted, when that changes.
    fn log_hold(&mut self) {
        let blocked_by = self.queue.blocked_by();
        if !self.queue.has_term() || self.logged == Some(blocked_by) {
            return;
        }
        match blocked_by {
            Some(blocked_by) => warn!(reason = blocked_by.as_str(), "nothing is granted"),
            None => info!("shards may identify, as soon as their buckets are free"),
        }
        self.logged = Some(blocked_by);
    }

    /// Hands the page to the candidate, which writes it on the Lease.
    fn publish(&self) {
        self.lease_state.send_if_modified(|page| {
            let new = self.queue.page(&page.entry.holder);
            let modified = new != *page;
            *page = new;
            modified
        });
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::unwrap_used)]
mod tests;
