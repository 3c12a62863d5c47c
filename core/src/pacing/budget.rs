//! How many session starts are left, and when to ask Discord again.
//!
//! Discord resets the token of a bot that uses up its session starts, so this
//! never fails open: what is not known is not granted. Pure, like the pacer.
//!
//! When few session starts are left, what Discord said a while ago is not
//! enough: other programs with the same token may have used the rest. Then a
//! grant needs a confirmation: an answer to a question that was asked while a
//! grant was due ([`Budget::confirm_at`]).

use std::collections::VecDeque;
use std::time::Duration;

use crate::gateway_bot::Limits;
use crate::lease_state::{BlockedBy, TokenState};
use crate::time::Moment;

/// The first and the longest pause after a fetch that failed.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The shortest time there is.
const INSTANT: Duration = Duration::from_nanos(1);

/// With fewer session starts than so many for each bucket the budget is low,
const LOW_PER_BUCKET: u64 = 2;
/// and with less than this fraction of all, which is 2 %.
const LOW_FRACTION: u64 = 50;

/// For so long a confirmation is good, from its arrival: one question serves all who
/// come together.
const CONFIRMED_FOR: Duration = Duration::from_secs(1);

/// An answer that took longer confirms nothing: the process was suspended meanwhile.
const CONFIRMS_WITHIN: Duration = Duration::from_secs(10);

/// How often a rejected token is tried again.
const REJECTED_AGAIN: Duration = Duration::from_secs(60);

/// What came of a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Discord told the limits.
    Limits(Limits),
    /// Discord answered 401.
    Rejected,
    /// Discord answered 429, and when to come back.
    RateLimited(Duration),
    /// Discord answered something else that helps nobody. A sentence about it.
    Useless(String),
    /// No answer at all. A sentence about it.
    Unreachable(String),
}

impl Outcome {
    /// The word that stands for it in metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Limits(_) => "success",
            Self::Rejected => "rejected",
            Self::RateLimited(_) => "rate_limited",
            Self::Useless(_) => "invalid",
            Self::Unreachable(_) => "unreachable",
        }
    }
}

/// What the budget must know of the settings.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Discord's interval: how long an identify may take to be counted.
    pub interval: Duration,
    /// Session starts to leave untouched.
    pub reserve: u64,
    /// How often to fetch when nothing happens.
    pub refresh: Duration,
}

/// The last good answer, and what was granted on top of it.
#[derive(Clone, Copy, Debug)]
struct Known {
    limits: Limits,
    /// When to ask again if nothing is left: as the window ends.
    ask_at: Moment,
    /// Grants since the question was sent.
    used: u64,
    /// Grants before it, ours or a predecessor's, that Discord may not have
    /// counted yet,
    doubtful: u64,
    /// and when it must have.
    certain_at: Moment,
}

/// See the module.
#[derive(Debug)]
pub struct Budget {
    rules: Rules,
    token: TokenState,
    known: Option<Known>,
    /// Grants on their way into a socket.
    writing: u64,
    /// Written grants, the oldest first, as far back as an answer can miss one.
    recent: VecDeque<Moment>,
    /// What a predecessor granted that Discord may not have counted, if known,
    uncounted: Option<u64>,
    /// and from when on a fetch must have counted it.
    settled_at: Moment,
    /// How many buckets there were at most, as far as that is known.
    buckets: u32,
    /// The fetch that is under way,
    sent: Option<Moment>,
    /// and whether a grant was due when it was sent.
    confirms: bool,
    /// No fetch before this,
    earliest: Moment,
    /// and none for a confirmation before this.
    confirm_earliest: Moment,
    /// The next fetch, when nothing asks for an earlier one.
    refresh_at: Moment,
    /// Until when the last confirmation is good; none when it is not any more.
    confirmed_until: Option<Moment>,
    backoff: Duration,
    /// The pause of those who were told "0 left, and no window is open".
    empty_backoff: Duration,
    last_error: Option<String>,
}

impl Budget {
    /// A budget that knows nothing but the state of the token. A predecessor
    /// granted `uncounted` shards in the last two intervals, or nobody knows
    /// how many: then it is two turns of each bucket.
    pub fn new(rules: Rules, token: TokenState, uncounted: Option<u64>, now: Moment) -> Self {
        Self {
            rules,
            token,
            known: None,
            writing: 0,
            recent: VecDeque::new(),
            uncounted,
            settled_at: match uncounted {
                Some(0) => now,
                _ => now + rules.interval * 2,
            },
            buckets: 0,
            sent: None,
            confirms: false,
            earliest: now,
            confirm_earliest: now,
            refresh_at: now,
            confirmed_until: None,
            backoff: BACKOFF.0,
            empty_backoff: rules.interval,
            last_error: None,
        }
    }

    /// The predecessor had so many buckets.
    pub fn had_buckets(&mut self, buckets: u32) {
        self.buckets = buckets;
    }

    /// Knows this from a predecessor, and asks Discord all the same.
    pub fn adopt(&mut self, limits: Limits, now: Moment) {
        self.buckets = self.buckets.max(limits.max_concurrency.unwrap_or(0));
        self.known = Some(Known {
            limits,
            ask_at: now,
            used: 0,
            doubtful: 0,
            certain_at: now,
        });
    }

    /// What Discord may not have counted at `now`, for a successor; none when
    /// that cannot be known.
    pub fn uncounted(&self, now: Moment) -> Option<u64> {
        // Nothing is counted here, and the successor may have a token.
        if self.token == TokenState::None {
            return None;
        }
        let from = now - self.rules.interval * 2;
        let own = self.recent.iter().filter(|at| **at >= from).count() as u64;
        let inherited = match self.uncounted {
            _ if now >= self.settled_at => 0,
            uncounted => uncounted?,
        };
        Some(own.saturating_add(self.writing).saturating_add(inherited))
    }

    /// Why nothing may be granted; none when something may.
    pub fn blocked_by(&self) -> Option<BlockedBy> {
        match (self.token, &self.known) {
            (TokenState::None, _) => None,
            (TokenState::Missing, _) => Some(BlockedBy::TokenMissing),
            (TokenState::Rejected, _) => Some(BlockedBy::TokenRejected),
            (TokenState::Unchecked | TokenState::Accepted, None) => {
                Some(BlockedBy::SessionStartsUnknown)
            }
            (TokenState::Unchecked | TokenState::Accepted, Some(known)) => (self.available(known)
                <= self.rules.reserve)
                .then_some(BlockedBy::SessionStartsExhausted),
        }
    }

    /// Whether so few session starts are left that a grant needs a confirmation.
    pub fn is_low(&self) -> bool {
        let Some(known) = &self.known else {
            return false;
        };
        let buckets = known.limits.max_concurrency.unwrap_or(self.buckets);
        let left = self.available(known).saturating_sub(self.rules.reserve);
        left < u64::from(buckets) * LOW_PER_BUCKET
            || left.saturating_mul(LOW_FRACTION) < known.limits.total
    }

    /// Forgets a confirmation that is not good any more at `now`.
    pub fn expire(&mut self, now: Moment) {
        self.confirmed_until = self.confirmed_until.filter(|until| now < *until);
    }

    /// Whether a waiter whose turn comes at `at` may be granted then, by what is
    /// known now.
    pub fn may_grant(&self, at: Moment) -> bool {
        let confirmed = self.confirmed_until.is_some_and(|until| at < until);
        self.blocked_by().is_none() && (confirmed || !self.is_low())
    }

    /// When to ask for a confirmation of a grant that is due at `due`; none when it
    /// needs none, or a fetch is under way.
    pub fn confirm_at(&self, due: Moment) -> Option<Moment> {
        let needed = self.sent.is_none() && self.blocked_by().is_none() && !self.may_grant(due);
        needed.then(|| due.max(self.confirm_earliest))
    }

    /// The state of the token.
    pub fn token(&self) -> TokenState {
        self.token
    }

    /// What Discord told last.
    pub fn limits(&self) -> Option<Limits> {
        self.known.map(|known| known.limits)
    }

    /// Session starts that are left, the reserve not deducted.
    pub fn remaining(&self) -> Option<u64> {
        self.known.map(|known| self.available(&known))
    }

    /// What is wrong with Discord or the token, since the last good answer.
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// A grant is on its way. Call it only while [`Budget::may_grant`].
    pub fn granted(&mut self) {
        self.writing += 1;
    }

    /// That grant went out, or may have.
    pub fn written(&mut self, at: Moment) {
        self.writing = self.writing.saturating_sub(1);
        if self.token == TokenState::None {
            return;
        }
        let horizon = self.sent.unwrap_or(at) - self.rules.interval * 2;
        while self.recent.front().is_some_and(|first| *first < horizon) {
            self.recent.pop_front();
        }
        self.recent.push_back(at);
        if let Some(known) = &mut self.known {
            known.used += 1;
        }
    }

    /// That grant did not go out: its session start is not used.
    pub fn unwritten(&mut self) {
        self.writing = self.writing.saturating_sub(1);
    }

    /// The token is another one, and is tried at once; or it is gone. All limits
    /// are unknown.
    pub fn token_changed(&mut self, token: TokenState, now: Moment) {
        self.forget(token, now);
        if token != TokenState::Missing {
            self.earliest = now;
            self.confirm_earliest = now;
        }
    }

    /// The token that was there before is there again. The silence that Discord
    /// asked for is not broken.
    pub fn token_returned(&mut self, now: Moment) {
        self.forget(TokenState::Unchecked, now);
    }

    fn forget(&mut self, token: TokenState, now: Moment) {
        self.token = token;
        self.known = None;
        self.sent = None;
        self.refresh_at = now;
        self.confirmed_until = None;
        self.backoff = BACKOFF.0;
        self.empty_backoff = self.rules.interval;
        self.last_error = None;
    }

    /// When to fetch; none while a fetch is under way or there is no token.
    pub fn fetch_at(&self) -> Option<Moment> {
        if self.sent.is_some() || matches!(self.token, TokenState::None | TokenState::Missing) {
            return None;
        }
        let wanted = match (&self.known, self.blocked_by()) {
            (Some(known), Some(BlockedBy::SessionStartsExhausted)) => {
                // Held only for what Discord may not have counted: look again
                // as soon as it must have.
                let gone = known.used.saturating_add(self.writing);
                let certain = known.limits.remaining.saturating_sub(gone);
                let settle = match certain > self.rules.reserve {
                    true => known.certain_at,
                    false => self.refresh_at,
                };
                self.refresh_at.min(known.ask_at).min(settle)
            }
            _ => self.refresh_at,
        };
        Some(wanted.max(self.earliest))
    }

    /// A fetch was sent, while a grant was due or not.
    pub fn fetching(&mut self, due: bool, now: Moment) {
        self.sent = Some(now);
        self.confirms = due;
        if due {
            self.confirm_earliest = now + self.rules.interval;
        }
    }

    /// The fetch that was under way came to something. `jitter` is anything
    /// from 0 to 1, so that many queues do not come back all at once.
    pub fn fetched(&mut self, outcome: Outcome, now: Moment, jitter: f64) {
        let Some(sent) = self.sent.take() else {
            return;
        };
        // After any answer, one interval of silence.
        let soonest = now + self.rules.interval;
        match outcome {
            Outcome::Limits(limits) => {
                self.learn(limits, sent, now);
                self.earliest = soonest;
                return;
            }
            Outcome::Rejected => {
                self.token = TokenState::Rejected;
                self.last_error =
                    Some("Discord answered 401: the token is not valid, replace it".to_owned());
                self.refresh_at = soonest.max(now + REJECTED_AGAIN);
                self.earliest = self.refresh_at;
            }
            Outcome::RateLimited(pause) => {
                self.last_error = Some(format!(
                    "Discord answered 429: come back in {} s",
                    pause.as_secs_f64().ceil()
                ));
                self.refresh_at = soonest.max(now + pause);
                self.earliest = self.refresh_at;
            }
            Outcome::Useless(why) => {
                self.last_error = Some(why);
                self.refresh_at = soonest.max(now + self.pause(jitter));
                self.earliest = self.refresh_at;
            }
            Outcome::Unreachable(why) => {
                self.last_error = Some(why);
                self.refresh_at = now + self.pause(jitter);
                self.earliest = self.refresh_at;
            }
        }
        self.confirm_earliest = self.confirm_earliest.max(self.earliest);
    }

    fn learn(&mut self, limits: Limits, sent: Moment, now: Moment) {
        let unseen_from = sent - self.rules.interval * 2;
        let ours = self.recent.iter().copied().filter(|at| *at >= unseen_from);
        let (before, since): (Vec<Moment>, Vec<_>) = ours.partition(|at| *at < sent);
        self.buckets = self.buckets.max(limits.max_concurrency.unwrap_or(0));
        let guessed = match self.uncounted {
            _ if sent >= self.settled_at => 0,
            Some(uncounted) => uncounted,
            None => u64::from(self.buckets) * 2,
        };
        let last = before
            .last()
            .map_or(now, |at| *at + self.rules.interval * 2 + INSTANT);
        let mut known = Known {
            limits,
            ask_at: now + limits.reset_after,
            used: since.len() as u64,
            doubtful: guessed.saturating_add(before.len() as u64),
            certain_at: match guessed {
                0 => last,
                _ => last.max(self.settled_at),
            },
        };
        self.token = TokenState::Accepted;
        self.last_error = None;
        self.backoff = BACKOFF.0;
        self.refresh_at = now + self.rules.refresh;
        let left = self.available(&known).saturating_sub(self.rules.reserve);
        if self.confirms && now.since(sent) <= CONFIRMS_WITHIN {
            self.confirmed_until = Some(now + CONFIRMED_FOR);
        }
        match (limits.reset_after.is_zero(), left > 0) {
            // No window, and nothing left: nobody says when that ends.
            (true, false) => {
                known.ask_at = now + self.empty_backoff;
                let longest = BACKOFF.1.max(self.rules.interval);
                self.empty_backoff = (self.empty_backoff * 2).min(longest);
            }
            // The next start opens a window. Once all are used up, ask when
            // it ends: at once, as this moment has passed by then.
            (true, true) | (false, _) => self.empty_backoff = self.rules.interval,
        }
        self.known = Some(known);
    }

    fn available(&self, known: &Known) -> u64 {
        let gone = known.used.saturating_add(known.doubtful);
        let gone = gone.saturating_add(self.writing);
        known.limits.remaining.saturating_sub(gone)
    }

    fn pause(&mut self, jitter: f64) -> Duration {
        let pause = self.backoff.mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 4.0);
        self.backoff = (self.backoff * 2).min(BACKOFF.1);
        pause.min(BACKOFF.1)
    }
}

#[cfg(test)]
mod tests;
