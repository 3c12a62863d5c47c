//! What the model knows of the session starts, and when it expects the queue to ask Discord.

use std::time::Duration;

use gateway_queue_core::lease_state::TokenState;
use gateway_queue_core::pacing::discord_retry::Outcome;
use gateway_queue_core::pacing::pacer::WaiterId;
use gateway_queue_core::time::Moment;

use super::{Granted, Judge, Place};
use crate::history::rule::{Rule, Verdict};

/// What Discord reported last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported {
    total: u64,
    remaining: u64,
    /// It includes the grants before this.
    includes_until: Moment,
    /// The grants that are assumed of a predecessor.
    assumed: u64,
    reset_at: Option<Moment>,
}

impl Judge {
    /// Returns whether Discord has reported the session starts.
    pub(crate) fn knows(&self) -> bool {
        self.reported.is_some()
    }

    /// Returns the session starts above the reserve, by Discord's report; none while unknown.
    fn available(&self) -> Option<u64> {
        let reported = self.reported?;
        let is_missing = |g: &&Granted| g.written.is_none_or(|at| at >= reported.includes_until);
        let used = self.granted.iter().filter(is_missing).count() as u64;
        let left = reported.remaining.saturating_sub(used + reported.assumed);
        Some(left.saturating_sub(self.config.rules.reserve))
    }

    /// Returns whether a grant needs a confirmation, because other programs may use the rest:
    /// fewer than two session starts per bucket are left, or less than 2 % of all.
    pub(crate) fn is_low(&self) -> bool {
        self.reported
            .zip(self.available())
            .is_some_and(|(reported, left)| {
                left < 2 * self.free_at.len() as u64 || 50 * left < reported.total
            })
    }

    /// Returns whether Discord's report is recent enough for a grant at `at`.
    pub(super) fn is_confirmed(&self, at: Moment) -> bool {
        !self.is_low() || at < self.confirmed_until
    }

    pub(super) fn open(&self) -> bool {
        let has_session_starts = self.available().is_some_and(|left| left > 0);
        let is_accepted = self.token == TokenState::Accepted;
        self.token == TokenState::None || is_accepted && has_session_starts
    }

    pub(super) fn fetch_by(&self) -> Moment {
        let window = self.reported.and_then(|reported| reported.reset_at);
        match window {
            Some(reset_at) if !self.open() && !self.failed => {
                self.fetch_by.min(reset_at.max(self.fetch_from))
            }
            _ => self.fetch_by,
        }
    }

    pub(crate) fn fetching(&mut self, now: Moment) -> Verdict {
        let due = |(at, ..): &(Moment, Place, WaiterId)| *at <= now;
        let mut from = self.fetch_from;
        if !self.is_confirmed(now) && self.heads(now).iter().any(due) {
            from = from.min(self.confirm_from);
        }
        self.confirms = self.fronts(now).iter().any(due);
        if self.confirms {
            self.confirm_from = now + self.config.rules.interval;
        }
        let in_flight = self.fetch_sent.replace(now);
        Rule::Fetches.check(in_flight.is_none() && now >= from, now, || {
            format!("not before {from:?}, in flight since {in_flight:?}")
        })
    }

    pub(crate) fn token_changed(&mut self, token: TokenState, now: Moment) {
        self.token = token;
        self.concurrency_known = token == TokenState::None;
        self.reported = None;
        self.fetch_sent = None;
        // Only a new token ends a pause.
        if token != TokenState::Missing {
            self.fetch_from = now;
            self.confirm_from = now;
        }
        self.confirmed_until = Moment::ZERO;
        self.fetch_by = now;
        self.failed = false;
    }

    pub(crate) fn fetched(&mut self, outcome: &Outcome, now: Moment) {
        let Some(sent) = self.fetch_sent.take() else {
            return;
        };
        let rules = self.config.rules;
        let patience = Duration::from_secs(60).max(rules.interval);
        let (pause, by) = match outcome {
            Outcome::Limits(limits) => {
                if limits.max_concurrency.is_some() || self.concurrency_known {
                    let buckets = limits.max_concurrency.unwrap_or(self.free_at.len() as u32);
                    let assumes =
                        self.config.start_guard && sent < self.started + rules.interval * 2;
                    self.set_buckets(buckets);
                    self.max_buckets = self.max_buckets.max(buckets);
                    let window = limits.reset_after;
                    self.token = TokenState::Accepted;
                    self.reported = Some(Reported {
                        total: limits.total,
                        remaining: limits.remaining,
                        includes_until: sent - rules.interval * 2,
                        assumed: u64::from(self.max_buckets) * if assumes { 2 } else { 0 },
                        reset_at: (!window.is_zero()).then_some(now + window),
                    });
                    if self.confirms && now <= sent + Duration::from_secs(10) {
                        self.confirmed_until = now + Duration::from_secs(1);
                    }
                    self.failed = false;
                    self.fetch_from = now + rules.interval;
                    self.fetch_by = now + rules.refresh.max(rules.interval);
                    return;
                }
                (rules.interval, patience)
            }
            Outcome::Rejected => {
                self.token = TokenState::Rejected;
                (rules.interval, patience)
            }
            Outcome::RateLimited(pause) => {
                let pause = rules.interval.max(*pause);
                (pause, pause)
            }
            Outcome::Invalid(_) => (rules.interval, patience),
            Outcome::Unreachable(_) => (Duration::ZERO, patience),
        };
        self.failed = true;
        self.fetch_from = now + pause;
        self.confirm_from = self.fetch_from.max(self.confirm_from);
        self.fetch_by = now + by;
    }

    fn set_buckets(&mut self, buckets: u32) {
        self.concurrency_known = true;
        if buckets as usize == self.free_at.len() {
            return;
        }
        let latest = self.free_at.iter().copied().max();
        self.free_at = vec![latest.unwrap_or_default(); buckets as usize];
        self.layout += 1;
    }
}
