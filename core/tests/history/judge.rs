//! A model of the queue that is as simple as possible, and finds violations of the rules.
//!
//! Its lists are searched from end to end. Times come from the history, never from the queue.

mod limits;

use std::collections::BTreeMap;
use std::time::Duration;

use gateway_queue_core::lease_state::TokenState;
use gateway_queue_core::pacing::pacer::{Grant, WaiterId};
use gateway_queue_core::pacing::scheduler::Config;
use gateway_queue_core::protocol::request;
use gateway_queue_core::testing::judge::{Spacing, Written};
use gateway_queue_core::time::Moment;

use super::rule::{Rule, Verdict, Violation};
use limits::Reported;

/// When the request arrived, or the one whose reservation it took, and its number.
type Place = (Moment, u64);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter {
    pub(crate) id: WaiterId,
    pub(crate) shard: u32,
    place: Place,
}

/// A grant of the queue since its last start.
#[derive(Clone, Copy, Debug)]
struct Granted {
    waiter: Waiter,
    bucket: u32,
    layout: u32,
    /// When it was written, once the queue knows.
    written: Option<Moment>,
}

#[derive(Debug)]
pub(crate) struct Judge {
    config: Config,
    started: Moment,
    token: TokenState,
    reported: Option<Reported>,
    concurrency_known: bool,
    max_buckets: u32,
    free_at: Vec<Moment>,
    /// Counts the changes of the number of buckets, and the restarts.
    layout: u32,
    offered: u64,
    pub(crate) waiting: Vec<Waiter>,
    /// The shard and place of each reservation, and when it expires.
    reservations: Vec<(u32, Place, Moment)>,
    granted: Vec<Granted>,
    /// The grants that were written to a socket.
    spacing: Spacing,
    /// The same since the last start of the queue, by shard.
    by_shard: Vec<(u32, Moment)>,
    /// The shards with a grant and no report since.
    identifying: BTreeMap<u32, Moment>,
    fetch_sent: Option<Moment>,
    /// Whether it was sent while a grant was due, so that its response confirms.
    confirms: bool,
    confirmed_until: Moment,
    /// No fetch before this, except for a confirmation.
    fetch_from: Moment,
    /// No fetch for a confirmation before this.
    confirm_from: Moment,
    /// The latest time of the next fetch.
    fetch_by: Moment,
    /// Whether the last fetch failed.
    failed: bool,
}

impl Judge {
    pub(crate) fn new(config: Config, token: TokenState, now: Moment) -> Self {
        let free_at = if config.start_guard {
            now + config.spacing
        } else {
            Moment::ZERO
        };
        let buckets = if token == TokenState::None {
            config.max_concurrency
        } else {
            1
        };
        Self {
            config,
            started: now,
            token,
            reported: None,
            concurrency_known: token == TokenState::None,
            max_buckets: 0,
            free_at: vec![free_at; buckets as usize],
            layout: 0,
            offered: 0,
            waiting: Vec::new(),
            reservations: Vec::new(),
            granted: Vec::new(),
            spacing: Spacing::default(),
            by_shard: Vec::new(),
            identifying: BTreeMap::new(),
            fetch_sent: None,
            confirms: false,
            confirmed_until: Moment::ZERO,
            fetch_from: now,
            confirm_from: now,
            fetch_by: now,
            failed: false,
        }
    }

    /// The queue was killed and started again. With the guard, the spacing also applies to the
    /// grants before.
    pub(crate) fn restart(&mut self, config: Config, token: TokenState, now: Moment) {
        let mut new = Self::new(config, token, now);
        new.layout = self.layout + 1;
        if config.start_guard {
            new.spacing = std::mem::take(&mut self.spacing);
        }
        *self = new;
    }

    pub(crate) fn buckets(&self) -> usize {
        self.free_at.len()
    }

    fn bucket(&self, shard: u32) -> u32 {
        shard % self.free_at.len() as u32
    }

    pub(crate) fn offered(&mut self, id: WaiterId, shard: u32, took: bool, now: Moment) -> Verdict {
        self.reservations.retain(|(_, _, until)| *until > now);
        let reservations = self.reservations.iter().enumerate();
        let oldest = reservations
            .filter(|(_, (of, _, _))| *of == shard)
            .min_by_key(|(_, (_, place, _))| *place)
            .map(|(n, _)| n);
        let place = match oldest {
            Some(n) => self.reservations.remove(n).1,
            None => {
                self.offered += 1;
                (now, self.offered)
            }
        };
        self.waiting.push(Waiter { id, shard, place });
        Rule::Order.check(took == oldest.is_some(), now, || {
            format!("{id:?} of shard {shard} took a reservation: {took}")
        })
    }

    pub(crate) fn left(&mut self, waiter: Waiter, now: Moment) {
        self.waiting.retain(|w| w.id != waiter.id);
        let until = now + self.config.reservation_ttl;
        self.reservations.push((waiter.shard, waiter.place, until));
    }

    /// Returns when a shard may be granted again; none if it may be.
    pub(crate) fn released_at(&self, shard: u32, now: Moment) -> Option<Moment> {
        let limit = self.config.shard_limit;
        let of_shard = self.granted.iter().filter(|g| g.waiter.shard == shard);
        let mut written: Vec<_> = of_shard.filter_map(|g| g.written).collect();
        written.sort();
        let counted = written.len().checked_sub(limit.burst)?;
        let first = written.get(counted)?;
        Some(*first + limit.window).filter(|at| *at > now)
    }

    /// A client has reported something about its shard. Returns whether Discord refused an identify.
    pub(crate) fn shard_reported(
        &mut self,
        shard: u32,
        report: request::Report,
        now: Moment,
    ) -> bool {
        let granted = self.identifying.remove(&shard);
        let is_answer = granted.is_some_and(|at| at + Duration::from_secs(60) > now);
        let is_refused = is_answer && report == request::Report::InvalidSession;
        if is_refused {
            let bucket = self.bucket(shard) as usize;
            self.free_at[bucket] = self.free_at[bucket].max(now + self.config.spacing);
        }
        is_refused
    }

    /// Returns the first waiter of each bucket without a grant in flight, and when it may go.
    fn heads(&self, now: Moment) -> Vec<(Moment, Place, WaiterId)> {
        if self.open() {
            self.fronts(now)
        } else {
            Vec::new()
        }
    }

    /// Returns the same even if nothing may be granted.
    fn fronts(&self, now: Moment) -> Vec<(Moment, Place, WaiterId)> {
        let in_flight = || self.granted.iter().filter(|g| g.written.is_none());
        if in_flight().any(|g| g.layout != self.layout) {
            return Vec::new();
        }
        let released = |w: &&Waiter| self.released_at(w.shard, now).is_none();
        let waiting: Vec<_> = self.waiting.iter().filter(released).collect();
        let head = |bucket: u32| {
            let here = waiting.iter().filter(|w| self.bucket(w.shard) == bucket);
            let first = here.min_by_key(|w| w.place)?;
            let blocked = in_flight().any(|g| g.bucket == bucket);
            let free_at = self.free_at[bucket as usize];
            (!blocked).then_some((free_at, first.place, first.id))
        };
        (0..self.free_at.len() as u32).filter_map(head).collect()
    }

    pub(crate) fn granted(
        &mut self,
        grant: &Grant,
        really_left: Option<i64>,
        now: Moment,
    ) -> Result<Waiter, Violation> {
        let id = grant.waiter;
        let found = self.waiting.iter().position(|w| w.id == id);
        Rule::Disconnected.check(found.is_some(), now, || format!("{grant:?}"))?;
        let waiter = self.waiting[found.unwrap()];
        let (token, reported) = (self.token, self.reported);
        let is_known = token == TokenState::Accepted && reported.is_some();
        let is_good = token == TokenState::None || is_known;
        Rule::Blocked.check(is_good, now, || format!("{id:?}: {token:?}, {reported:?}"))?;
        let reserve = self.config.rules.reserve as i64;
        let is_left = token == TokenState::None || really_left.is_none_or(|left| left > reserve);
        let may_grant = is_left && self.open() && self.is_confirmed(now);
        Rule::Budget.check(may_grant, now, || {
            format!("{id:?} with {really_left:?} really left, {reported:?}")
        })?;

        let released_at = self.released_at(waiter.shard, now);
        Rule::Burst.check(released_at.is_none(), now, || {
            format!("{grant:?} before {released_at:?}")
        })?;

        let bucket = self.bucket(waiter.shard);
        let earlier = |w: &&Waiter| {
            let is_held = self.released_at(w.shard, now).is_some();
            self.bucket(w.shard) == bucket && w.place < waiter.place && !is_held
        };
        let passed = self.waiting.iter().find(earlier);
        let is_first = passed.is_none() && grant.bucket == bucket;
        Rule::Order.check(is_first, now, || format!("{grant:?} passed {passed:?}"))?;
        let mut due = self.heads(now);
        due.retain(|(at, ..)| *at <= now);
        let next = due.iter().min_by_key(|(_, place, _)| *place);
        let next = next.map(|(_, _, head)| *head);
        let is_due = due.iter().any(|(_, _, head)| *head == id);
        let rule = if is_due { Rule::Order } else { Rule::Spacing };
        rule.check(next == Some(id), now, || {
            format!(
                "{grant:?}, but {next:?} is next; free at {:?}",
                self.free_at
            )
        })?;
        self.waiting.retain(|w| w.id != id);
        self.granted.push(Granted {
            waiter,
            bucket,
            layout: self.layout,
            written: None,
        });
        Ok(waiter)
    }

    /// The grant was written to the client's socket.
    pub(crate) fn written(&mut self, id: WaiterId, at: Moment) -> Verdict {
        let Some(granted) = self.granted.iter().find(|g| g.waiter.id == id) else {
            return Ok(());
        };
        let close = self.spacing.written(Written {
            at,
            term: 0,
            shown: at,
            bucket: granted.bucket,
            layout: granted.layout,
            spacing: self.config.spacing,
        });
        Rule::Spacing.check(close.is_none(), at, || {
            format!("{granted:?} is too close to {close:?}")
        })?;
        let shard = granted.waiter.shard;
        self.by_shard.push((shard, at));
        let limit = self.config.shard_limit;
        let counts = |written: &&(u32, Moment)| written.0 == shard && written.1 + limit.window > at;
        let count = self.by_shard.iter().filter(counts).count();
        Rule::Burst.check(limit.burst == 0 || count <= limit.burst, at, || {
            format!("shard {shard} was granted {count} times")
        })
    }

    /// The queue has received the report that the grant was written at `at`.
    pub(crate) fn reported(&mut self, id: WaiterId, at: Moment) {
        let Some(granted) = self.granted.iter_mut().find(|g| g.waiter.id == id) else {
            return;
        };
        granted.written = Some(at);
        let (granted, free_at) = (*granted, at + self.config.spacing);
        self.identifying.insert(granted.waiter.shard, at);
        for (bucket, free) in (0..).zip(&mut self.free_at) {
            if granted.layout != self.layout || granted.bucket == bucket {
                *free = free_at.max(*free);
            }
        }
    }

    pub(crate) fn unwritten(&mut self, id: WaiterId, now: Moment) {
        if let Some(n) = self.granted.iter().position(|g| g.waiter.id == id) {
            let granted = self.granted.remove(n);
            self.left(granted.waiter, now);
        }
    }

    /// The queue grants nothing more now, and sleeps until `wake_at`.
    pub(crate) fn sleeps(
        &self,
        wake_at: Option<Moment>,
        fetch_at: Option<Moment>,
        now: Moment,
    ) -> Verdict {
        let heads = self.heads(now);
        let heads = heads.into_iter().map(|(at, _, id)| (at, id)).min();
        // Without a confirmation, the limits must be fetched by then.
        let next = heads.filter(|(at, _)| self.is_confirmed(now.max(*at)));
        let unconfirmed = heads.filter(|_| next.is_none() && !self.failed);
        let confirm_by = unconfirmed.map(|(at, _)| at.max(self.confirm_from));
        let sleeps_over = |at: Moment| wake_at.is_none_or(|wake| wake > at);
        let wasted = next.is_some_and(|(at, _)| at <= now || sleeps_over(at));
        Rule::Waste.check(!wasted, now, || {
            format!("{next:?} may be granted, the queue sleeps until {wake_at:?}")
        })?;
        let held = self.waiting.iter();
        let released_at = held.filter_map(|w| self.released_at(w.shard, now)).min();
        Rule::Waste.check(!released_at.is_some_and(sleeps_over), now, || {
            format!("shards are released at {released_at:?}, the queue sleeps until {wake_at:?}")
        })?;
        Rule::Waste.check(wake_at.is_none_or(|at| at > now), now, || {
            format!("wakes at {wake_at:?} with nothing to do")
        })?;
        let fetches = !matches!(self.token, TokenState::None | TokenState::Missing)
            && self.fetch_sent.is_none();
        let in_time = match fetch_at {
            None => !fetches,
            Some(at) => {
                let by = self.fetch_by().min(confirm_by.unwrap_or(self.fetch_by()));
                fetches && at <= by && !sleeps_over(at)
            }
        };
        Rule::Fetches.check(in_time, now, || {
            let (by, token) = (self.fetch_by(), self.token);
            format!(
                "next {fetch_at:?}, wakes {wake_at:?}, due by {by:?} and {confirm_by:?}: {token:?}"
            )
        })
    }
}
