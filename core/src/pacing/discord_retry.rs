//! When Discord is asked for the limits again: the pause after each response (200, 401, 429 and
//! others) and after an error.
//!
//! A low budget needs more than the regular fetches: other programs with the same token may
//! have used the rest since. Then a grant needs a *confirmation*, the response to a request
//! that was sent while a grant was due.

use std::time::Duration;

use crate::gateway_bot::Limits;
use crate::time::Moment;

/// The first pause after a fetch that failed.
const MIN_BACKOFF: Duration = Duration::from_secs(1);

/// The longest pause after a fetch that failed.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// The pause before a rejected token is tried again.
const REJECTED_RETRY: Duration = Duration::from_secs(60);

/// How long a confirmation is valid after it arrived: one fetch serves all waiters that are
/// due at the same time.
const CONFIRMED_FOR: Duration = Duration::from_secs(1);

/// A response that took longer confirms nothing: the process was suspended meanwhile.
const CONFIRMS_WITHIN: Duration = Duration::from_secs(10);

/// The outcome of a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Discord reported the limits.
    Limits(Limits),
    /// Discord answered 401.
    Rejected,
    /// Discord answered 429 and named this pause.
    RateLimited(Duration),
    /// Any other response, with a description.
    Invalid(String),
    /// No response, with a description of the error.
    Unreachable(String),
}

impl Outcome {
    /// Returns the name in metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Limits(_) => "success",
            Self::Rejected => "rejected",
            Self::RateLimited(_) => "rate_limited",
            Self::Invalid(_) => "invalid",
            Self::Unreachable(_) => "unreachable",
        }
    }
}

/// When Discord is asked for the limits again.
#[derive(Debug)]
pub(crate) struct RetrySchedule {
    /// Discord's interval: the least time between a response and the next fetch.
    interval: Duration,
    /// The time between regular fetches.
    refresh: Duration,
    in_flight: Option<Fetch>,
    /// The next regular fetch.
    refresh_at: Moment,
    /// The next fetch when no session start is left: the end of the open window.
    exhausted_retry_at: Moment,
    /// No fetch before this.
    earliest: Moment,
    /// No fetch for a confirmation before this.
    confirm_earliest: Moment,
    /// The end of the last confirmation.
    confirmed_until: Option<Moment>,
    /// The next pause after a failed fetch.
    backoff: Duration,
    /// The next pause after a response with no session start and no open window.
    empty_backoff: Duration,
    last_error: Option<String>,
}

/// A request that was sent and not answered yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fetch {
    pub(crate) sent: Moment,
    /// Whether a grant was due when it was sent.
    is_confirmation: bool,
}

impl RetrySchedule {
    /// Returns a schedule whose first fetch is due now.
    pub(crate) fn new(interval: Duration, refresh: Duration, now: Moment) -> Self {
        Self {
            interval,
            refresh,
            in_flight: None,
            refresh_at: now,
            exhausted_retry_at: now,
            earliest: now,
            confirm_earliest: now,
            confirmed_until: None,
            backoff: MIN_BACKOFF,
            empty_backoff: interval,
            last_error: None,
        }
    }

    /// Starts over after a change of the token. The pause that Discord asked for stays.
    pub(crate) fn restart(&mut self, now: Moment) {
        *self = Self {
            earliest: self.earliest,
            confirm_earliest: self.confirm_earliest,
            ..Self::new(self.interval, self.refresh, now)
        };
    }

    /// Ends the pause that Discord asked for: it was for another token.
    pub(crate) fn end_pause(&mut self, now: Moment) {
        self.earliest = now;
        self.confirm_earliest = now;
    }

    /// Returns the error of the last fetch; none after a success.
    pub(crate) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// Returns when the fetch in flight was sent.
    pub(crate) fn sent(&self) -> Option<Moment> {
        self.in_flight.map(|fetch| fetch.sent)
    }

    /// Returns the next regular fetch; none while one is in flight.
    pub(crate) fn fetch_at(&self) -> Option<Moment> {
        self.no_sooner(self.refresh_at)
    }

    /// Returns the next fetch while session starts are exhausted, at the latest at
    /// `recount_at`; none while one is in flight.
    pub(crate) fn fetch_at_when_exhausted(&self, recount_at: Option<Moment>) -> Option<Moment> {
        let at = self.refresh_at.min(self.exhausted_retry_at);
        self.no_sooner(recount_at.map_or(at, |recount_at| at.min(recount_at)))
    }

    fn no_sooner(&self, at: Moment) -> Option<Moment> {
        let is_idle = self.in_flight.is_none();
        is_idle.then(|| at.max(self.earliest))
    }

    /// Returns when to fetch a confirmation of a grant that is due at `due`; none while a
    /// fetch is in flight.
    pub(crate) fn confirm_at(&self, due: Moment) -> Option<Moment> {
        let is_idle = self.in_flight.is_none();
        is_idle.then(|| due.max(self.confirm_earliest))
    }

    /// Returns whether a confirmation is valid at `at`.
    pub(crate) fn is_confirmed(&self, at: Moment) -> bool {
        self.confirmed_until.is_some_and(|until| at < until)
    }

    /// Drops a confirmation that has expired at `now`.
    pub(crate) fn expire(&mut self, now: Moment) {
        self.confirmed_until = self.confirmed_until.filter(|until| now < *until);
    }

    /// Notes that a fetch was sent, and whether a grant was due at that time.
    pub(crate) fn start(&mut self, is_due: bool, now: Moment) {
        self.in_flight = Some(Fetch {
            sent: now,
            is_confirmation: is_due,
        });
        if is_due {
            self.confirm_earliest = now + self.interval;
        }
    }

    /// Returns the fetch in flight, which has ended.
    pub(crate) fn finish(&mut self) -> Option<Fetch> {
        self.in_flight.take()
    }

    /// Schedules the next fetch after a response with the limits. `is_exhausted`: no session
    /// start may be granted.
    pub(crate) fn succeeded(
        &mut self,
        fetch: Fetch,
        limits: &Limits,
        is_exhausted: bool,
        now: Moment,
    ) {
        self.last_error = None;
        self.backoff = MIN_BACKOFF;
        self.earliest = now + self.interval;
        self.refresh_at = now + self.refresh;
        if fetch.is_confirmation && now.since(fetch.sent) <= CONFIRMS_WITHIN {
            self.confirmed_until = Some(now + CONFIRMED_FOR);
        }
        if is_exhausted && limits.reset_after.is_zero() {
            // Without an open window, Discord does not report when there will be more.
            self.exhausted_retry_at = now + self.empty_backoff;
            self.empty_backoff = (self.empty_backoff * 2).min(MAX_BACKOFF.max(self.interval));
        } else {
            // If no window is open, the next grant opens one, and its end is unknown. Then this
            // time has passed once all session starts are used, so they are fetched at once.
            self.exhausted_retry_at = now + limits.reset_after;
            self.empty_backoff = self.interval;
        }
    }

    /// Schedules the next fetch after any other outcome. `jitter` is 0 to 1, so that many
    /// queues do not retry at the same time.
    pub(crate) fn failed(&mut self, outcome: Outcome, now: Moment, jitter: f64) {
        // At least one interval between any response and the next request.
        let after_response = now + self.interval;
        let (retry_at, error) = match outcome {
            Outcome::Limits(_) => return,
            Outcome::Rejected => (
                after_response.max(now + REJECTED_RETRY),
                "Discord answered 401: the token is invalid".to_owned(),
            ),
            Outcome::RateLimited(pause) => (
                after_response.max(now + pause),
                format!(
                    "Discord answered 429: retry in {} s",
                    pause.as_secs_f64().ceil()
                ),
            ),
            Outcome::Invalid(error) => (after_response.max(now + self.back_off(jitter)), error),
            Outcome::Unreachable(error) => (now + self.back_off(jitter), error),
        };
        self.last_error = Some(error);
        self.refresh_at = retry_at;
        self.earliest = retry_at;
        self.confirm_earliest = self.confirm_earliest.max(retry_at);
    }

    fn back_off(&mut self, jitter: f64) -> Duration {
        let pause = self.backoff.mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 4.0);
        self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
        pause.min(MAX_BACKOFF)
    }
}

#[cfg(test)]
mod tests;
