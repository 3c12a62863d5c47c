//! The task that owns the queue. All events arrive through one channel, in order.
//!
//! The decisions are those of `term_queue`; the task handles events, permits, the alarm, logs
//! and metrics. When a term ends, its waiters go to the next leader.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::{future, io};

use gateway_queue_core::bot_token::Current;
use gateway_queue_core::gateway_bot::{Limits, MAX_BUCKETS};
use gateway_queue_core::leadership::state::LeadershipState;
use gateway_queue_core::leadership::term::Term;
use gateway_queue_core::lease_state::last_known::PublishedState;
use gateway_queue_core::lease_state::{BlockedBy, Handover};
use gateway_queue_core::pacing::discord_retry::Outcome;
use gateway_queue_core::pacing::pacer::{Grant, WaiterId};
use gateway_queue_core::pacing::scheduler::{Config, FetchResult};
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

/// How many events are handled before due waiters are granted.
const MAX_BATCH: usize = 256;

/// A waiting request.
struct Waiter {
    permit: oneshot::Sender<Permit>,
    _connection_permit: OwnedSemaphorePermit,
}

/// The queue and its connections.
pub struct QueueTask {
    queue: TermQueue,
    leadership: watch::Receiver<LeadershipState>,
    /// Where to send the handover, once no grant is in flight.
    handover: Option<(String, Term, oneshot::Sender<Handover>)>,
    alarm: Alarm,
    waiters: HashMap<WaiterId, Waiter>,
    events: UnboundedReceiver<Event>,
    /// For the reports of permits.
    reports: UnboundedSender<Event>,
    tokens: watch::Receiver<Current>,
    discord: Discord,
    fetch: Option<Pin<Box<dyn Future<Output = Outcome> + Send>>>,
    /// What was last logged as the reason why nothing is granted.
    logged: Option<Option<BlockedBy>>,
    lease_state: watch::Sender<PublishedState>,
    metrics: Arc<Metrics>,
}

impl QueueTask {
    /// Returns a queue task, and a handle to it for at most `max_waiters`. It grants while
    /// `leadership` makes this process the leader, and publishes its state to `lease_state`. Must
    /// be called within a tokio runtime.
    pub fn new(
        config: Config,
        max_waiters: usize,
        mut leadership: watch::Receiver<LeadershipState>,
        mut tokens: watch::Receiver<Current>,
        discord: Discord,
        lease_state: watch::Sender<PublishedState>,
        metrics: Arc<Metrics>,
    ) -> io::Result<(Self, Handle)> {
        let state = leadership.borrow_and_update().clone();
        let token = tokens.borrow_and_update().clone();
        let (handle, reports, events) = Handle::new(max_waiters);
        let queue_task = Self {
            queue: TermQueue::new(config, state, token, boot_time::now()),
            leadership,
            handover: None,
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
        // The first reader must not see an initial value.
        queue_task.publish();
        Ok((queue_task, handle))
    }

    /// Runs until it is dropped.
    ///
    /// # Errors
    ///
    /// If the kernel's timer fails: nothing could be granted in time.
    pub async fn run(mut self) -> io::Result<()> {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        if let Current::Missing(detail) = &*self.tokens.borrow() {
            warn!(detail, "token missing");
        }
        loop {
            self.log_blocked();
            self.publish();
            self.grant_due();
            self.fetch_if_due();
            self.log_blocked();
            self.publish();
            self.alarm.set(self.queue.wake_at(boot_time::now()))?;
            let fetched = async {
                match &mut self.fetch {
                    Some(fetch) => fetch.await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                _ = self.events.recv_many(&mut batch, MAX_BATCH) => {
                    for event in batch.drain(..) {
                        self.handle(event);
                    }
                }
                rang = self.alarm.ring() => rang?,
                outcome = fetched => self.fetched(outcome),
                // A sender that was dropped sends no more changes.
                Ok(()) = self.leadership.changed() => self.leadership_changed(),
                Ok(()) = self.tokens.changed() => self.token_changed(),
            }
        }
    }

    /// Follows a change of the leadership state.
    fn leadership_changed(&mut self) {
        let leadership = self.leadership.borrow_and_update().clone();
        if self.queue.set_leadership(leadership, boot_time::now()) {
            // Dropping their senders sends them to the next leader.
            self.waiters.clear();
            self.fetch = None;
            self.logged = None;
        }
    }

    fn handle(&mut self, event: Event) {
        // The sender may have seen a newer leadership state than this task.
        if self.leadership.has_changed().unwrap_or(false) {
            self.leadership_changed();
        }
        let now = boot_time::now();
        match event {
            Event::Offer {
                waiter,
                shard,
                arrived,
                permit,
                _connection_permit,
            } => {
                let was_looping = self.queue.is_crash_looping(shard.id);
                // Without a term the sender is dropped: the request goes to the leader.
                if let Some(reserved) = self.queue.offer(waiter, shard, arrived, now) {
                    self.metrics.reservations_used.inc_by(reserved.into());
                    self.waiters.insert(
                        waiter,
                        Waiter {
                            permit,
                            _connection_permit,
                        },
                    );
                }
                self.log_crash_loop(shard.id, was_looping, now);
            }
            Event::Disconnected(waiter) => {
                self.waiters.remove(&waiter);
                if self.queue.cancel(waiter, now) {
                    self.metrics.cancelled.inc();
                }
            }
            Event::GiveUp(waiter, sender) => {
                // The bucket may have just become free.
                self.grant_due();
                if let Some(refusal) = self.queue.give_up(waiter, now) {
                    self.waiters.remove(&waiter);
                    self.metrics.refused(refusal.reason.as_str());
                    let _ = sender.send(refusal);
                }
            }
            Event::Written { grant, at } => {
                let was_looping = self.queue.is_crash_looping(grant.shard);
                self.queue.written(&grant, at);
                let (waited, late) = (at.since(grant.arrived), at.since(grant.allowed));
                self.metrics.granted(waited, late);
                let Grant { shard, bucket, .. } = grant;
                let (waited_ms, late_us) = (ms(waited), us(late));
                debug!(shard, bucket, waited_ms, late_us, "granted");
                self.log_crash_loop(shard, was_looping, now);
            }
            Event::Unwritten(waiter) => {
                self.queue.unwritten(waiter, now);
                self.metrics.cancelled.inc();
            }
            Event::Report { shard, report, .. } => self.queue.report(shard, report, now),
            Event::Look(detail, sender) => {
                let held = u64::try_from(self.metrics.held()).unwrap_or(0);
                let _ = sender.send(self.queue.snapshot(detail, held, now));
            }
            Event::Handover(lease, term, sender) => self.handover = Some((lease, term, sender)),
        }
        self.hand_over(now);
    }

    fn hand_over(&mut self, now: Moment) {
        if let Some((lease, term, sender)) = self.handover.take() {
            match self.queue.handover(&lease, &term, now) {
                Some(handover) => drop(sender.send(handover)),
                None => self.handover = Some((lease, term, sender)),
            }
        }
    }

    fn grant_due(&mut self) {
        while let Some((grant, until)) = self.queue.grant(boot_time::now()) {
            let permit = Permit::own(grant, until, self.reports.clone());
            // A permit that is dropped reports that it was not written.
            if let Some(waiter) = self.waiters.remove(&grant.waiter) {
                let _ = waiter.permit.send(permit);
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
        if let Outcome::Limits(limits) = &outcome
            && limits.max_concurrency.is_none()
        {
            self.metrics.invalid_max_concurrency.inc();
            let detail = format!("expected 1 to {MAX_BUCKETS}");
            warn!(detail, "invalid max_concurrency ignored");
        }
        let now = boot_time::now();
        let before = self.queue.limits();
        let result = self
            .queue
            .fetched(outcome, now, Timestamp::now(), fastrand::f64());
        match result {
            None => {}
            Some(FetchResult::Limits {
                limits,
                concurrency_was,
            }) => {
                let Limits {
                    total,
                    remaining,
                    max_concurrency,
                    ..
                } = limits;
                if let Some(previous) = concurrency_was {
                    info!(max_concurrency, previous, "max_concurrency changed");
                }
                let steady = |before: Limits| {
                    (before.total, before.max_concurrency) == (total, max_concurrency)
                };
                if before.is_some_and(steady) {
                    debug!(total, remaining, max_concurrency, "limits fetched");
                } else {
                    info!(total, remaining, max_concurrency, "limits fetched");
                }
            }
            Some(FetchResult::Failed) => {
                let error = self.queue.last_error().unwrap_or_default();
                let retry_in_ms = self.queue.fetch_at().map(|at| ms(at.since(now)));
                warn!(error, retry_in_ms, "fetch of the limits failed");
            }
        }
    }

    fn token_changed(&mut self) {
        self.fetch = None;
        let token = self.tokens.borrow_and_update().clone();
        match self.queue.token_changed(token, boot_time::now()) {
            TokenChange::Returned => info!("token found again"),
            TokenChange::New => info!("token changed"),
            TokenChange::Missing(detail) => warn!(detail, "token missing"),
            TokenChange::None => {}
        }
    }

    /// Logs why nothing is granted, when that changes.
    fn log_blocked(&mut self) {
        let blocked_by = self.queue.blocked_by();
        if !self.queue.has_term() || self.logged == Some(blocked_by) {
            return;
        }
        match blocked_by {
            Some(blocked_by) => warn!(reason = blocked_by.as_str(), "grants blocked"),
            None => info!("grants unblocked"),
        }
        self.logged = Some(blocked_by);
    }

    /// Logs that a shard is held from now on, because it was granted too often.
    fn log_crash_loop(&self, shard: u32, was_looping: bool, now: Moment) {
        if let Some(released_at) = self.queue.released_at(shard).filter(|_| !was_looping) {
            let released_in_ms = ms(released_at.since(now));
            warn!(shard, released_in_ms, "shard crash-looping");
        }
    }

    /// Passes the state to the candidate, which writes it to the Lease.
    fn publish(&self) {
        self.lease_state.send_if_modified(|published| {
            let new = self.queue.published_state(&published.entry.holder);
            let modified = new != *published;
            *published = new;
            modified
        });
    }
}

#[cfg(test)]
mod tests;
