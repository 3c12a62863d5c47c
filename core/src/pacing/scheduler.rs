//! The scheduler: what the pacer may grant, within the budget of session starts.
//!
//! One task of the server owns it; tests drive it in simulated time.

use std::time::Duration;

use crate::gateway_bot::{Limits, MAX_BUCKETS};
use crate::leadership::term::ReceivedHandover;
use crate::lease_state::{BlockedBy, Handover, TokenState};
use crate::pacing::budget::{Budget, Rules};
use crate::pacing::discord_retry::Outcome;
use crate::pacing::pacer::breaker::CrashLooping;
use crate::pacing::pacer::{Grant, Lane, Pacer, WaiterId};
use crate::pacing::shard_history::{ShardLimit, ShardState};
use crate::protocol::refusal::{self, Reason, Refusal};
use crate::protocol::request::{Report, Shard};
use crate::time::Moment;

/// The `Retry-After` if it is unknown when grants are allowed again.
const NEWS_RETRY: Duration = Duration::from_secs(5);

/// The settings of the queue.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The minimum time between two grants of one bucket: Discord's interval plus the margin.
    pub spacing: Duration,
    /// Whether to grant nothing for one spacing after the start if the predecessor is unknown.
    pub start_guard: bool,
    /// How long the place of a disconnected waiter is reserved.
    pub reservation_ttl: Duration,
    /// How often one shard may be granted.
    pub shard_limit: ShardLimit,
    /// The number of buckets without a token; with one, Discord reports it.
    pub max_concurrency: u32,
    /// The settings of the budget.
    pub rules: Rules,
}

/// The result of a fetch, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchResult {
    /// Discord reported the limits.
    Limits {
        /// The limits that are in force now.
        limits: Limits,
        /// The previous number of buckets, if it changed.
        concurrency_was: Option<u32>,
    },
    /// The fetch failed. [`Budget::last_error`] returns the error.
    Failed,
}

/// The waiters and the budget of one queue.
#[derive(Debug)]
pub struct Queue {
    pacer: Pacer,
    budget: Budget,
    concurrency_known: bool,
    spacing: Duration,
    reservation_ttl: Duration,
    /// Since when the budget allows grants, to distinguish a late grant from one that was blocked.
    open_since: Option<Moment>,
}

impl Queue {
    /// Returns an empty queue, started at `now`. [`Config::start_guard`] says whether it may have
    /// had a predecessor.
    pub fn new(config: &Config, token: TokenState, now: Moment) -> Self {
        let handover = match config.start_guard {
            true => ReceivedHandover::unknown(now + config.spacing),
            false => ReceivedHandover::NONE,
        };
        Self::taking_over(config, token, &handover, now)
    }

    /// Returns an empty queue, started at `now`, that waits as long as the handover demands.
    pub fn taking_over(
        config: &Config,
        token: TokenState,
        handover: &ReceivedHandover,
        now: Moment,
    ) -> Self {
        let (ttl, limit) = (config.reservation_ttl, config.shard_limit);
        let mut pacer = Pacer::new(config.spacing, ttl, limit, handover);
        if token == TokenState::None {
            pacer.set_concurrency(config.max_concurrency);
        }
        let mut budget = Budget::new(config.rules, token, handover.uncounted, now);
        budget.had_buckets(pacer.concurrency());
        Self {
            pacer,
            budget,
            concurrency_known: token == TokenState::None,
            spacing: config.spacing,
            reservation_ttl: config.reservation_ttl,
            open_since: (token == TokenState::None).then_some(Moment::ZERO),
        }
    }

    /// Takes the limits of the last leader, less all that it may have granted since, until Discord
    /// has reported them.
    pub fn adopt(&mut self, limits: Limits, now: Moment) {
        if let Some(buckets) = limits.max_concurrency {
            self.concurrency_known = self.pacer.set_concurrency(buckets);
        }
        if self.concurrency_known {
            self.budget.adopt(limits, now);
        }
    }

    /// Returns the handover to the next leader of this Lease. No more grants may follow, and none
    /// may be in flight.
    pub fn handover(&self, lease: &str, now: Moment) -> Handover {
        Handover {
            lease: lease.to_owned(),
            waits: self.pacer.waits(now),
            spacing: self.spacing,
            uncounted: self.budget.uncounted(now),
        }
    }

    /// Returns whether a grant is in flight.
    pub fn is_writing(&self) -> bool {
        self.pacer.is_writing()
    }

    /// Adds a waiter that arrives now. Returns whether it took a reservation. `id` must be new.
    pub fn offer(&mut self, id: WaiterId, shard: u32, now: Moment) -> bool {
        self.pacer.offer(id, shard, now)
    }

    /// Adds a waiter that arrived in another process at `arrived`. Returns whether it took a
    /// reservation. `id` must be new.
    pub fn offer_from(&mut self, id: WaiterId, shard: Shard, arrived: Moment, now: Moment) -> bool {
        self.pacer.offer_from(id, shard, arrived, now)
    }

    /// Takes the report of a shard, which never makes a grant earlier.
    pub fn report(&mut self, shard: u32, report: Report, now: Moment) {
        self.pacer.report(shard, report, now);
    }

    /// Removes a waiter that disconnected, and reserves its place. Returns whether it was waiting.
    pub fn cancel(&mut self, id: WaiterId, now: Moment) -> bool {
        self.pacer.cancel(id, now)
    }

    /// Removes a waiter whose `wait` has passed, and reserves its place. Returns none if it is not
    /// waiting, because it was granted.
    pub fn give_up(&mut self, id: WaiterId, now: Moment) -> Option<Refusal> {
        let (reason, position, away) = match self.pacer.released_at(id) {
            Some(released_at) => (Reason::CrashLooping, None, released_at.since(now)),
            None => {
                let position = self.pacer.position(id, now)?;
                let blocked_by = self.blocked_by();
                let away = match blocked_by {
                    // Half of the time, so that it returns before its grant.
                    None => position.granted_at.since(now) / 2,
                    Some(_) => self.fetch_at().map_or(NEWS_RETRY, |at| at.since(now)),
                };
                (blocked_by.into(), Some(position.ahead + 1), away)
            }
        };
        self.pacer.cancel(id, now);
        Some(Refusal {
            reason,
            position,
            retry_after: refusal::retry_after(away, self.reservation_ttl),
        })
    }

    /// Returns a grant for the next waiter that may identify now. The caller writes it and reports
    /// [`Queue::written`] or [`Queue::unwritten`].
    pub fn grant(&mut self, now: Moment) -> Option<Grant> {
        self.pacer.advance(now);
        self.budget.expire(now);
        if !self.budget.may_grant(now) {
            self.open_since = None;
            return None;
        }
        let open_since = *self.open_since.get_or_insert(now);
        let grant = self.pacer.grant(now)?;
        self.budget.granted();
        Some(Grant {
            allowed: grant.allowed.max(open_since),
            ..grant
        })
    }

    /// Records that the grant was written at `at`, or may have been.
    pub fn written(&mut self, id: WaiterId, at: Moment) {
        if self.pacer.written(id, at) {
            self.budget.written(at);
        }
    }

    /// Records that no byte of the grant was written.
    pub fn unwritten(&mut self, id: WaiterId, now: Moment) {
        if self.pacer.unwritten(id, now) {
            self.budget.unwritten();
        }
    }

    /// Forgets the limits, as the token is another one, or is missing.
    pub fn token_changed(&mut self, token: TokenState, now: Moment) {
        self.budget.token_changed(token, now);
        self.concurrency_known = token == TokenState::None;
    }

    /// Forgets the limits, as the same token exists again.
    pub fn token_returned(&mut self, now: Moment) {
        self.budget.token_returned(now);
        self.concurrency_known = false;
    }

    /// Records that a fetch was sent.
    pub fn fetching(&mut self, now: Moment) {
        let due = self.pacer.wake_at().is_some_and(|at| at <= now);
        self.budget.fetching(due, now);
    }

    /// Takes the outcome of the fetch in flight. `jitter` is 0 to 1.
    pub fn fetched(&mut self, outcome: Outcome, now: Moment, jitter: f64) -> FetchResult {
        let Outcome::Limits(mut limits) = outcome else {
            self.budget.fetched(outcome, now, jitter);
            return FetchResult::Failed;
        };
        let was = self.pacer.concurrency();
        // An impossible number is not used; the previous one stays, if there is one.
        if limits.max_concurrency.is_none() && !self.concurrency_known {
            let error =
                format!("Discord reported a max_concurrency that is not 1 to {MAX_BUCKETS}");
            self.budget.fetched(Outcome::Invalid(error), now, jitter);
            return FetchResult::Failed;
        }
        let buckets = *limits.max_concurrency.get_or_insert(was);
        self.pacer.set_concurrency(buckets);
        self.concurrency_known = true;
        self.budget
            .fetched(Outcome::Limits(limits.clone()), now, jitter);
        FetchResult::Limits {
            limits,
            concurrency_was: (was != buckets).then_some(was),
        }
    }

    /// Returns when to fetch the limits next.
    pub fn fetch_at(&self) -> Option<Moment> {
        let due = self.pacer.wake_at();
        let confirm_at = due.and_then(|due| self.budget.confirm_at(due));
        self.budget.fetch_at().into_iter().chain(confirm_at).min()
    }

    /// Returns when to call [`Queue::grant`] or to fetch next, if nothing happens before. Call it
    /// after [`Queue::grant`] has returned none.
    pub fn wake_at(&self) -> Option<Moment> {
        let due = self.pacer.wake_at();
        let grant_at = due.filter(|due| self.budget.may_grant(*due));
        let times = [grant_at, self.fetch_at(), self.pacer.advance_at()];
        times.into_iter().flatten().min()
    }

    /// Returns why nothing is granted; none if something may be. The time until a confirmation is
    /// not a reason, unless its fetch has failed.
    pub fn blocked_by(&self) -> Option<BlockedBy> {
        let unanswered = self.budget.is_low() && self.budget.last_error().is_some();
        let unknown = unanswered.then_some(BlockedBy::SessionStartsUnknown);
        self.budget.blocked_by().or(unknown)
    }

    /// Returns the session starts.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Returns the number of buckets; none while it is unknown.
    pub fn concurrency(&self) -> Option<u32> {
        self.concurrency_known.then(|| self.pacer.concurrency())
    }

    /// Returns when a shard that is held is released; none if it is not held.
    pub fn released_at(&self, shard: u32) -> Option<Moment> {
        self.pacer.shard_released_at(shard)
    }

    /// Returns whether a shard is held, or was a moment ago.
    pub fn is_crash_looping(&self, shard: u32) -> bool {
        self.pacer.is_crash_looping(shard)
    }

    /// Returns the number of crash-looping shards.
    pub fn crash_looping_count(&self) -> usize {
        self.pacer.crash_looping_count()
    }

    /// Returns the crash-looping shards in ascending order.
    pub fn crash_looping(&self) -> impl Iterator<Item = CrashLooping> {
        self.pacer.crash_looping()
    }

    /// Returns the shards with more than 3 invalid sessions within ten minutes, in ascending order.
    pub fn degraded(&self) -> impl Iterator<Item = u32> {
        self.pacer.degraded()
    }

    /// Returns what is known of at most `max` shards, in ascending order. If there are more, those
    /// that are ready are left out first.
    pub fn shard_states(&self, max: usize, now: Moment) -> Vec<ShardState> {
        self.pacer.shard_states(max, now)
    }

    /// Returns all buckets, with at most `shards` waiting shards of each, for people.
    pub fn lanes(&self, shards: usize) -> impl Iterator<Item = Lane> {
        self.pacer.lanes(shards)
    }
}
