//! Knows the rules, and says when one is broken.
//!
//! It is as simple as can be: lists that are searched from end to end. Times
//! come from the history, never from the queue that is judged.

use std::time::Duration;

use gateway_queue_core::lease_state::TokenState;
use gateway_queue_core::pacing::discord_retry::Outcome;
use gateway_queue_core::pacing::pacer::{Grant, WaiterId};
use gateway_queue_core::pacing::scheduler::Config;
use gateway_queue_core::testing::judge::{Spacing, Written};
use gateway_queue_core::time::Moment;

use super::verdict::{Rule, Verdict, Violation, hold_that};

/// When it came (or the one whose place it took), and the how-many-th it was.
type Place = (Moment, u64);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter {
    pub(crate) id: WaiterId,
    pub(crate) shard: u32,
    place: Place,
}

/// A grant that the queue gave out in this life.
#[derive(Clone, Copy, Debug)]
struct Given {
    waiter: Waiter,
    bucket: u32,
    era: u32,
    /// The queue knows that it was written, and when.
    written: Option<Moment>,
}

/// What Discord said last.
#[derive(Clone, Copy, Debug)]
struct Told {
    total: u64,
    remaining: u64,
    /// Grants before this are in it.
    sees_until: Moment,
    guessed: u64,
    reset_at: Option<Moment>,
}

#[derive(Debug)]
pub(crate) struct Judge {
    config: Config,
    started: Moment,
    token: TokenState,
    told: Option<Told>,
    concurrency_known: bool,
    most_buckets: u32,
    free_at: Vec<Moment>,
    /// Counts the changes of the number of buckets, and the restarts.
    era: u32,
    came: u64,
    pub(crate) waiting: Vec<Waiter>,
    /// Empty places, and until when they are kept.
    kept: Vec<(u32, Place, Moment)>,
    given: Vec<Given>,
    /// The grants that reached a socket.
    spacing: Spacing,
    fetch_sent: Option<Moment>,
    /// It was sent while a grant was due: its answer confirms.
    confirms: bool,
    confirmed_until: Moment,
    /// No fetch before this,
    silent_until: Moment,
    /// but for a confirmation, which has a silence of its own.
    confirm_silent_until: Moment,
    /// A fetch by then.
    ask_by: Moment,
    /// The last fetch failed.
    failed: bool,
}

impl Judge {
    pub(crate) fn new(config: Config, token: TokenState, now: Moment) -> Self {
        let (buckets, guard) = match (token, config.start_guard) {
            (TokenState::None, true) => (config.max_concurrency, now + config.spacing),
            (TokenState::None, false) => (config.max_concurrency, Moment::ZERO),
            (_, true) => (1, now + config.spacing),
            (_, false) => (1, Moment::ZERO),
        };
        Self {
            config,
            started: now,
            token,
            told: None,
            concurrency_known: token == TokenState::None,
            most_buckets: 0,
            free_at: vec![guard; buckets as usize],
            era: 0,
            came: 0,
            waiting: Vec::new(),
            kept: Vec::new(),
            given: Vec::new(),
            spacing: Spacing::default(),
            fetch_sent: None,
            confirms: false,
            confirmed_until: Moment::ZERO,
            silent_until: now,
            confirm_silent_until: now,
            ask_by: now,
            failed: false,
        }
    }

    /// The queue was killed and started again. With the guard the new one must
    /// keep its distance to what the old one wrote.
    pub(crate) fn restart(&mut self, config: Config, token: TokenState, now: Moment) {
        let mut new = Self::new(config, token, now);
        new.era = self.era + 1;
        if config.start_guard {
            new.spacing = std::mem::take(&mut self.spacing);
        }
        *self = new;
    }

    pub(crate) fn buckets(&self) -> usize {
        self.free_at.len()
    }

    /// Discord has told the session starts.
    pub(crate) fn knows(&self) -> bool {
        self.told.is_some()
    }

    fn bucket(&self, shard: u32) -> u32 {
        shard % self.free_at.len() as u32
    }

    pub(crate) fn offered(&mut self, id: WaiterId, shard: u32, took: bool, now: Moment) -> Verdict {
        self.kept.retain(|(_, _, until)| *until > now);
        let places = self.kept.iter().enumerate();
        let oldest = places
            .filter(|(_, (of, _, _))| *of == shard)
            .min_by_key(|(_, (_, place, _))| *place)
            .map(|(n, _)| n);
        let place = match oldest {
            Some(n) => self.kept.remove(n).1,
            None => {
                self.came += 1;
                (now, self.came)
            }
        };
        self.waiting.push(Waiter { id, shard, place });
        hold_that(took == oldest.is_some(), Rule::Order, now, || {
            format!("{id:?} of shard {shard} took a kept place: {took}")
        })
    }

    pub(crate) fn left(&mut self, waiter: Waiter, now: Moment) {
        self.waiting.retain(|w| w.id != waiter.id);
        let until = now + self.config.reservation_ttl;
        self.kept.push((waiter.shard, waiter.place, until));
    }

    /// Session starts above the reserve, by what Discord said; none while unknown.
    fn available(&self) -> Option<u64> {
        let told = self.told?;
        let unseen = |given: &&Given| given.written.is_none_or(|at| at >= told.sees_until);
        let used = self.given.iter().filter(unseen).count() as u64;
        let left = told.remaining.saturating_sub(used + told.guessed);
        Some(left.saturating_sub(self.config.rules.reserve))
    }

    /// With so little left a grant needs a confirmation, as others may use the rest:
    /// fewer than two for each bucket, or than 2 % of all.
    pub(crate) fn is_low(&self) -> bool {
        let (Some(told), Some(left)) = (self.told, self.available()) else {
            return false;
        };
        left < 2 * self.free_at.len() as u64 || 50 * left < told.total
    }

    /// Whether what Discord said is enough for a grant at this moment.
    fn is_confirmed(&self, at: Moment) -> bool {
        !self.is_low() || at < self.confirmed_until
    }

    fn open(&self) -> bool {
        match self.token {
            TokenState::None => true,
            TokenState::Accepted => self.available().is_some_and(|left| left > 0),
            TokenState::Unchecked | TokenState::Missing | TokenState::Rejected => false,
        }
    }

    /// Where each waiter stands who is the first of a bucket that is not shut.
    fn heads(&self) -> Vec<(Moment, Place, WaiterId)> {
        match self.open() {
            true => self.fronts(),
            false => Vec::new(),
        }
    }

    /// The same, whether anything may be granted or not.
    fn fronts(&self) -> Vec<(Moment, Place, WaiterId)> {
        let in_air = || self.given.iter().filter(|g| g.written.is_none());
        if in_air().any(|g| g.era != self.era) {
            return Vec::new();
        }
        let head = |bucket: u32| {
            let here = |w: &&Waiter| self.bucket(w.shard) == bucket;
            let first = self.waiting.iter().filter(here).min_by_key(|w| w.place)?;
            let shut = in_air().any(|g| g.bucket == bucket);
            let free_at = self.free_at[bucket as usize];
            (!shut).then_some((free_at, first.place, first.id))
        };
        (0..self.free_at.len() as u32).filter_map(head).collect()
    }

    pub(crate) fn granted(
        &mut self,
        grant: &Grant,
        truly_left: Option<i64>,
        now: Moment,
    ) -> Result<Waiter, Violation> {
        let id = grant.waiter;
        let found = self.waiting.iter().position(|w| w.id == id);
        let Some(found) = found else {
            return Err(Violation::new(Rule::Gone, now, format!("{grant:?}")));
        };
        let good = match self.token {
            TokenState::None => true,
            TokenState::Accepted => self.told.is_some(),
            TokenState::Unchecked | TokenState::Missing | TokenState::Rejected => false,
        };
        let (token, told) = (self.token, self.told);
        hold_that(good, Rule::Held, now, || {
            format!("{id:?}: {token:?}, {told:?}")
        })?;
        let reserve = self.config.rules.reserve as i64;
        let in_truth = token == TokenState::None || truly_left.is_none_or(|left| left > reserve);
        let confirmed = self.is_confirmed(now);
        hold_that(
            in_truth && self.open() && confirmed,
            Rule::Budget,
            now,
            || format!("{id:?} with {truly_left:?} left in truth, {told:?}"),
        )?;

        let waiter = self.waiting[found];
        let bucket = self.bucket(waiter.shard);
        let place = waiter.place;
        let earlier = |w: &&Waiter| self.bucket(w.shard) == bucket && w.place < place;
        let passed = self.waiting.iter().find(earlier).copied();
        hold_that(
            passed.is_none() && grant.bucket == bucket,
            Rule::Order,
            now,
            || format!("{grant:?} passed {passed:?}"),
        )?;
        let heads = self.heads();
        let may_go = heads.iter().filter(|(at, ..)| *at <= now);
        let turn = may_go.min_by_key(|(_, place, _)| *place).map(|h| h.2);
        let rule = match heads.iter().any(|(at, _, head)| *head == id && *at <= now) {
            true => Rule::Order,
            false => Rule::Spacing,
        };
        hold_that(turn == Some(id), rule, now, || {
            format!(
                "{grant:?}, but the turn is of {turn:?}; free at {:?}",
                self.free_at
            )
        })?;
        self.waiting.remove(found);
        let era = self.era;
        let written = None;
        self.given.push(Given {
            waiter,
            bucket,
            era,
            written,
        });
        Ok(waiter)
    }

    /// The grant is in the client's socket.
    pub(crate) fn written(&mut self, id: WaiterId, at: Moment) -> Verdict {
        let Some(given) = self.given.iter().find(|g| g.waiter.id == id) else {
            return Ok(());
        };
        let (era, bucket) = (given.era, given.bucket);
        let near = self.spacing.written(Written {
            at,
            term: 0,
            shown: at,
            bucket,
            layout: era,
            spacing: self.config.spacing,
        });
        hold_that(near.is_none(), Rule::Spacing, at, || {
            format!("{id:?} in bucket {bucket} of era {era}, but there was {near:?}")
        })
    }

    /// The queue has heard that it was written at `at`.
    pub(crate) fn reported(&mut self, id: WaiterId, at: Moment) {
        let Some(given) = self.given.iter_mut().find(|g| g.waiter.id == id) else {
            return;
        };
        given.written = Some(at);
        let (given, free_at) = (*given, at + self.config.spacing);
        for (bucket, free) in (0..).zip(&mut self.free_at) {
            if given.era != self.era || given.bucket == bucket {
                *free = free_at.max(*free);
            }
        }
    }

    pub(crate) fn unwritten(&mut self, id: WaiterId, now: Moment) {
        if let Some(n) = self.given.iter().position(|g| g.waiter.id == id) {
            let given = self.given.remove(n);
            self.left(given.waiter, now);
        }
    }

    /// The queue has said that nobody may go now, and sleeps until `wake_at`.
    pub(crate) fn sleeps(
        &self,
        wake_at: Option<Moment>,
        fetch_at: Option<Moment>,
        now: Moment,
    ) -> Verdict {
        let heads = self.heads().into_iter().map(|(at, _, id)| (at, id)).min();
        // Without a confirmation it is Discord that must be asked by then.
        let next = heads.filter(|(at, _)| self.is_confirmed(now.max(*at)));
        let unconfirmed = heads.filter(|_| next.is_none() && !self.failed);
        let confirm_by = unconfirmed.map(|(at, _)| at.max(self.confirm_silent_until));
        let sleeps_over = |at: Moment| wake_at.is_none_or(|wake| wake > at);
        let wasted = next.is_some_and(|(at, _)| at <= now || sleeps_over(at));
        hold_that(!wasted, Rule::Waste, now, || {
            format!("{next:?} may go, the queue sleeps until {wake_at:?}")
        })?;
        hold_that(wake_at.is_none_or(|at| at > now), Rule::Waste, now, || {
            format!("wakes at {wake_at:?} with nothing to do")
        })?;
        let asks = !matches!(self.token, TokenState::None | TokenState::Missing)
            && self.fetch_sent.is_none();
        let in_time = match fetch_at {
            None => !asks,
            Some(at) => {
                let by = self.ask_by().min(confirm_by.unwrap_or(self.ask_by()));
                asks && at <= by && !sleeps_over(at)
            }
        };
        hold_that(in_time, Rule::Fetches, now, || {
            let (by, token) = (self.ask_by(), self.token);
            format!(
                "next {fetch_at:?}, wakes {wake_at:?}, wanted by {by:?} and {confirm_by:?}: {token:?}"
            )
        })
    }

    fn ask_by(&self) -> Moment {
        let window = self.told.and_then(|told| told.reset_at);
        match window {
            Some(reset_at) if !self.open() && !self.failed => {
                self.ask_by.min(reset_at.max(self.silent_until))
            }
            _ => self.ask_by,
        }
    }

    pub(crate) fn fetching(&mut self, now: Moment) -> Verdict {
        let due = |(at, ..): &(Moment, Place, WaiterId)| *at <= now;
        let wanted = !self.is_confirmed(now) && self.heads().iter().any(due);
        let silent_until = match wanted {
            true => self.confirm_silent_until.min(self.silent_until),
            false => self.silent_until,
        };
        let right = self.fetch_sent.is_none() && now >= silent_until;
        self.confirms = self.fronts().iter().any(due);
        if self.confirms {
            self.confirm_silent_until = now + self.config.rules.interval;
        }
        let under_way = self.fetch_sent.replace(now);
        hold_that(right, Rule::Fetches, now, || {
            format!("silent until {silent_until:?}, under way {under_way:?}")
        })
    }

    pub(crate) fn token_changed(&mut self, token: TokenState, now: Moment) {
        self.token = token;
        self.concurrency_known = token == TokenState::None;
        self.told = None;
        self.fetch_sent = None;
        // Only a new token may break the silence.
        if token != TokenState::Missing {
            self.silent_until = now;
            self.confirm_silent_until = now;
        }
        self.confirmed_until = Moment::ZERO;
        self.ask_by = now;
        self.failed = false;
    }

    pub(crate) fn fetched(&mut self, outcome: &Outcome, now: Moment) {
        let Some(sent) = self.fetch_sent.take() else {
            return;
        };
        let rules = self.config.rules;
        let patience = Duration::from_secs(60).max(rules.interval);
        let (silence, by) = match outcome {
            Outcome::Limits(limits) => {
                if limits.max_concurrency.is_some() || self.concurrency_known {
                    let buckets = limits.max_concurrency.unwrap_or(self.free_at.len() as u32);
                    let guess = self.config.start_guard && sent < self.started + rules.interval * 2;
                    self.set_buckets(buckets);
                    self.most_buckets = self.most_buckets.max(buckets);
                    let window = limits.reset_after;
                    self.token = TokenState::Accepted;
                    self.told = Some(Told {
                        total: limits.total,
                        remaining: limits.remaining,
                        sees_until: sent - rules.interval * 2,
                        guessed: if guess {
                            u64::from(self.most_buckets) * 2
                        } else {
                            0
                        },
                        reset_at: (!window.is_zero()).then_some(now + window),
                    });
                    if self.confirms && now <= sent + Duration::from_secs(10) {
                        self.confirmed_until = now + Duration::from_secs(1);
                    }
                    self.failed = false;
                    self.silent_until = now + rules.interval;
                    self.ask_by = now + rules.refresh.max(rules.interval);
                    return;
                }
                (rules.interval, patience)
            }
            Outcome::Rejected => {
                self.token = TokenState::Rejected;
                (rules.interval, patience)
            }
            Outcome::RateLimited(pause) => (rules.interval.max(*pause), rules.interval.max(*pause)),
            Outcome::Invalid(_) => (rules.interval, patience),
            Outcome::Unreachable(_) => (Duration::ZERO, patience),
        };
        self.failed = true;
        self.silent_until = now + silence;
        self.confirm_silent_until = self.silent_until.max(self.confirm_silent_until);
        self.ask_by = now + by;
    }

    fn set_buckets(&mut self, buckets: u32) {
        self.concurrency_known = true;
        if buckets as usize == self.free_at.len() {
            return;
        }
        let latest = self.free_at.iter().copied().max();
        self.free_at = vec![latest.unwrap_or_default(); buckets as usize];
        self.era += 1;
    }
}
