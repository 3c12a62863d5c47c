//! How many session starts are left, and whether one may be granted.
//!
//! Discord resets the token of a bot that uses up its session starts, so the budget never fails
//! open: nothing is granted while the number is unknown.

use std::collections::VecDeque;
use std::time::Duration;

use crate::gateway_bot::Limits;
use crate::lease_state::{BlockedBy, TokenState};
use crate::pacing::discord_retry::{Outcome, RetrySchedule};
use crate::time::Moment;

pub(super) const ONE_NANOSECOND: Duration = Duration::from_nanos(1);

/// The budget is low with fewer session starts than this for each bucket.
const LOW_PER_BUCKET: u64 = 2;

/// The budget is low with less than one session start of this many, which is 2 %.
const LOW_FRACTION: u64 = 50;

/// The settings of the budget.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Discord's interval: how long it may take until Discord counts an identify.
    pub interval: Duration,
    /// The session starts that are not granted.
    pub reserve: u64,
    /// The time between regular fetches.
    pub refresh: Duration,
}

/// The last limits from Discord, and the grants since.
#[derive(Clone, Debug)]
struct Known {
    limits: Limits,
    /// Grants since the request was sent.
    used: u64,
    /// Earlier grants, of this leader or its predecessor, that the limits may not include.
    uncounted: u64,
    /// When Discord must have counted them.
    counted_at: Moment,
}

/// The session starts of one bot.
#[derive(Debug)]
pub struct Budget {
    rules: Rules,
    token: TokenState,
    known: Option<Known>,
    /// Grants that are being written to a socket.
    writing: u64,
    /// The times of written grants, oldest first, as far back as a response may not include one.
    recent: VecDeque<Moment>,
    /// The grants of a predecessor that Discord may not have counted; none if unknown.
    inherited: Option<u64>,
    /// When Discord must have counted them.
    inherited_counted_at: Moment,
    /// The highest known number of buckets.
    buckets: u32,
    schedule: RetrySchedule,
}

impl Budget {
    /// Returns a budget without limits. A predecessor granted `inherited` shards in the last two
    /// intervals; if that is unknown, two grants of each bucket are assumed.
    pub fn new(rules: Rules, token: TokenState, inherited: Option<u64>, now: Moment) -> Self {
        Self {
            rules,
            token,
            known: None,
            writing: 0,
            recent: VecDeque::new(),
            inherited,
            inherited_counted_at: match inherited {
                Some(0) => now,
                _ => now + rules.interval * 2,
            },
            buckets: 0,
            schedule: RetrySchedule::new(rules.interval, rules.refresh, now),
        }
    }

    /// Sets the number of buckets of the predecessor.
    pub fn had_buckets(&mut self, buckets: u32) {
        self.buckets = buckets;
    }

    /// Takes the limits from a predecessor. The first fetch is due nevertheless.
    pub fn adopt(&mut self, limits: Limits, now: Moment) {
        self.buckets = self.buckets.max(limits.max_concurrency.unwrap_or(0));
        self.known = Some(Known {
            limits,
            used: 0,
            uncounted: 0,
            counted_at: now,
        });
    }

    /// Returns the grants that Discord may not have counted at `now`, for a successor; none if
    /// unknown.
    pub fn uncounted(&self, now: Moment) -> Option<u64> {
        // Nothing is counted here, and the successor may have a token.
        if self.token == TokenState::None {
            return None;
        }
        let from = now - self.rules.interval * 2;
        let own = self.recent.iter().filter(|at| **at >= from).count() as u64;
        let inherited = match self.inherited {
            _ if now >= self.inherited_counted_at => 0,
            inherited => inherited?,
        };
        Some(own.saturating_add(self.writing).saturating_add(inherited))
    }

    /// Returns why nothing may be granted; none if something may.
    pub fn blocked_by(&self) -> Option<BlockedBy> {
        match self.token {
            TokenState::None => None,
            TokenState::Missing => Some(BlockedBy::TokenMissing),
            TokenState::Rejected => Some(BlockedBy::TokenRejected),
            TokenState::Unchecked | TokenState::Accepted => match &self.known {
                None => Some(BlockedBy::SessionStartsUnknown),
                Some(known) => {
                    let is_exhausted = self.above_reserve(known) == 0;
                    is_exhausted.then_some(BlockedBy::SessionStartsExhausted)
                }
            },
        }
    }

    /// Returns whether so few session starts are left that a grant needs a confirmation.
    pub fn is_low(&self) -> bool {
        let Some(known) = &self.known else {
            return false;
        };
        let buckets = known.limits.max_concurrency.unwrap_or(self.buckets);
        let left = self.above_reserve(known);
        left < u64::from(buckets) * LOW_PER_BUCKET
            || left.saturating_mul(LOW_FRACTION) < known.limits.total
    }

    /// Drops a confirmation that has expired at `now`.
    pub fn expire(&mut self, now: Moment) {
        self.schedule.expire(now);
    }

    /// Returns whether a waiter that is due at `at` may be granted then, by what is known now.
    pub fn may_grant(&self, at: Moment) -> bool {
        self.blocked_by().is_none() && (self.schedule.is_confirmed(at) || !self.is_low())
    }

    /// Returns when to fetch a confirmation of a grant that is due at `due`; none if it needs
    /// none, or a fetch is in flight.
    pub fn confirm_at(&self, due: Moment) -> Option<Moment> {
        let is_needed = self.blocked_by().is_none() && !self.may_grant(due);
        self.schedule.confirm_at(due).filter(|_| is_needed)
    }

    /// Returns the state of the token.
    pub fn token(&self) -> TokenState {
        self.token
    }

    /// Returns the last limits from Discord.
    pub fn limits(&self) -> Option<&Limits> {
        self.known.as_ref().map(|known| &known.limits)
    }

    /// Returns the session starts that are left, including the reserve.
    pub fn remaining(&self) -> Option<u64> {
        self.known.as_ref().map(|known| self.available(known))
    }

    /// Returns the error of the last fetch; none after a success.
    pub fn last_error(&self) -> Option<&str> {
        self.schedule.last_error()
    }

    /// Counts a grant that is about to be written. Call it only while [`Budget::may_grant`].
    pub fn granted(&mut self) {
        self.writing += 1;
    }

    /// Counts a grant that was written at `at`, or may have been.
    pub fn written(&mut self, at: Moment) {
        self.writing = self.writing.saturating_sub(1);
        if self.token == TokenState::None {
            return;
        }
        let horizon = self.schedule.sent().unwrap_or(at) - self.rules.interval * 2;
        while self.recent.front().is_some_and(|first| *first < horizon) {
            self.recent.pop_front();
        }
        self.recent.push_back(at);
        if let Some(known) = &mut self.known {
            known.used += 1;
        }
    }

    /// Gives back the session start of a grant that was not written.
    pub fn unwritten(&mut self) {
        self.writing = self.writing.saturating_sub(1);
    }

    /// Forgets the limits, as the token is another one, which is tried at once, or is missing.
    pub fn token_changed(&mut self, token: TokenState, now: Moment) {
        self.forget(token, now);
        if token != TokenState::Missing {
            self.schedule.end_pause(now);
        }
    }

    /// Forgets the limits, as the same token exists again. A pause that Discord asked for stays.
    pub fn token_returned(&mut self, now: Moment) {
        self.forget(TokenState::Unchecked, now);
    }

    fn forget(&mut self, token: TokenState, now: Moment) {
        self.token = token;
        self.known = None;
        self.schedule.restart(now);
    }

    /// Returns when to fetch the limits; none while a fetch is in flight or there is no token.
    pub fn fetch_at(&self) -> Option<Moment> {
        if matches!(self.token, TokenState::None | TokenState::Missing) {
            return None;
        }
        let is_exhausted = self.blocked_by() == Some(BlockedBy::SessionStartsExhausted);
        let Some(known) = self.known.as_ref().filter(|_| is_exhausted) else {
            return self.schedule.fetch_at();
        };
        // If grants that Discord may not have counted are the only reason, fetch again once it
        // must have counted them.
        let used = known.used.saturating_add(self.writing);
        let may_be_left = known.limits.remaining.saturating_sub(used) > self.rules.reserve;
        let recount_at = may_be_left.then_some(known.counted_at);
        self.schedule.fetch_at_when_exhausted(recount_at)
    }

    /// Notes that a fetch was sent, and whether a grant was due at that time.
    pub fn fetching(&mut self, is_due: bool, now: Moment) {
        self.schedule.start(is_due, now);
    }

    /// Takes the outcome of the fetch in flight. `jitter` is 0 to 1, so that many queues do not
    /// retry at the same time.
    pub fn fetched(&mut self, outcome: Outcome, now: Moment, jitter: f64) {
        let Some(fetch) = self.schedule.finish() else {
            return;
        };
        match outcome {
            Outcome::Limits(limits) => {
                let known = self.count(limits, fetch.sent, now);
                let is_exhausted = self.above_reserve(&known) == 0;
                self.token = TokenState::Accepted;
                self.schedule
                    .succeeded(fetch, &known.limits, is_exhausted, now);
                self.known = Some(known);
            }
            Outcome::Rejected => {
                self.token = TokenState::Rejected;
                self.schedule.failed(outcome, now, jitter);
            }
            Outcome::RateLimited(_) | Outcome::Invalid(_) | Outcome::Unreachable(_) => {
                self.schedule.failed(outcome, now, jitter);
            }
        }
    }

    /// Counts the grants that these limits may not include; their request was sent at `sent`.
    fn count(&mut self, limits: Limits, sent: Moment, now: Moment) -> Known {
        let two_intervals = self.rules.interval * 2;
        let own = self.recent.iter().copied();
        let own = own.filter(|at| *at >= sent - two_intervals);
        let (before, since): (Vec<_>, Vec<_>) = own.partition(|at| *at < sent);
        self.buckets = self.buckets.max(limits.max_concurrency.unwrap_or(0));
        let inherited = match self.inherited {
            _ if sent >= self.inherited_counted_at => 0,
            Some(inherited) => inherited,
            None => u64::from(self.buckets) * 2,
        };
        let own_counted_at = before
            .last()
            .map_or(now, |at| *at + two_intervals + ONE_NANOSECOND);
        Known {
            limits,
            used: since.len() as u64,
            uncounted: inherited.saturating_add(before.len() as u64),
            counted_at: match inherited {
                0 => own_counted_at,
                _ => own_counted_at.max(self.inherited_counted_at),
            },
        }
    }

    fn available(&self, known: &Known) -> u64 {
        let used = known.used.saturating_add(known.uncounted);
        let used = used.saturating_add(self.writing);
        known.limits.remaining.saturating_sub(used)
    }

    fn above_reserve(&self, known: &Known) -> u64 {
        self.available(known).saturating_sub(self.rules.reserve)
    }
}

#[cfg(test)]
pub(super) mod tests;
