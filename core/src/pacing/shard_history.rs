//! What is known of each shard: its last grants, and what its client has reported.
//!
//! Clients can invent shard ids, so the memory is bounded: at most [`MAX_SHARDS`] shards and
//! `MAX_GRANTS` grants are remembered. Then the shard is forgotten whose last event is the oldest:
//! one that was never granted if there is one, and none that has reached its limit of grants.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::pacing::shards_until::ShardsUntil;
use crate::protocol::request::Report;
use crate::time::Moment;

/// The maximum number of shards that are remembered. The largest bots have half as many.
pub const MAX_SHARDS: usize = 32_768;

/// The maximum number of grants of all shards that are remembered.
const MAX_GRANTS: usize = 8 * MAX_SHARDS;

/// The memory of the history in bytes, if the nodes of its trees are as empty as possible: that of
/// the shards, and of their grants.
pub const HISTORY_BYTES: u64 = MAX_SHARDS as u64 * 384 + MAX_GRANTS as u64 * 16;

/// How soon after its grant a shard identifies. A later invalid session refuses a resume.
const IDENTIFIES_WITHIN: Duration = Duration::from_mins(1);

/// How long an invalid session counts.
const INVALID_SESSION_WINDOW: Duration = Duration::from_mins(10);

/// A shard with more invalid sessions than this within the window is degraded.
const MAX_INVALID_SESSIONS: usize = 3;

/// How often one shard may be granted.
#[derive(Clone, Copy, Debug)]
pub struct ShardLimit {
    /// The maximum number of grants within the window; 0 for no limit.
    pub burst: usize,
    /// The window: a grant counts for this long.
    pub window: Duration,
}

impl ShardLimit {
    /// No limit.
    pub const NONE: Self = Self {
        burst: 0,
        window: Duration::ZERO,
    };
}

/// What is known of a shard at one moment, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardState {
    /// The id of the shard.
    pub shard: u32,
    /// When it was granted last.
    pub last_grant: Option<Moment>,
    /// What its client reported last, and when.
    pub last_report: Option<(Report, Moment)>,
    /// How many of its identifies Discord refused within the last ten minutes; at most 4 are counted.
    pub invalid_sessions: usize,
}

/// What is known of a shard.
#[derive(Debug, Default)]
struct Known {
    /// The last grants, oldest first: as many as the limit allows, and at least one.
    grants: VecDeque<Moment>,
    last_report: Option<(Report, Moment)>,
    /// Whether there is a grant and no report since.
    is_identifying: bool,
    /// When the last identifies were refused, oldest first.
    invalid_sessions: VecDeque<Moment>,
}

/// What is known of each shard. Every step takes O(log shards), but one step may forget several.
#[derive(Debug)]
pub(crate) struct ShardHistory {
    limit: ShardLimit,
    shards: BTreeMap<u32, Known>,
    /// Whether each shard was granted, and from when on it may be forgotten.
    forgettable: BTreeSet<(bool, Moment, u32)>,
    /// The number of all grants in `shards`.
    grants: usize,
    not_ready: BTreeSet<u32>,
    /// The shards with too many invalid sessions.
    degraded: ShardsUntil<()>,
}

impl ShardHistory {
    pub(crate) fn new(limit: ShardLimit) -> Self {
        Self {
            limit,
            shards: BTreeMap::new(),
            forgettable: BTreeSet::new(),
            grants: 0,
            not_ready: BTreeSet::new(),
            degraded: ShardsUntil::new(),
        }
    }

    /// Records a grant that was written at `at`.
    pub(crate) fn granted(&mut self, shard: u32, at: Moment) {
        let kept = self.limit.burst.max(1);
        self.record(shard, at, 1, |known| {
            push(&mut known.grants, at, kept);
            known.is_identifying = true;
        });
    }

    /// Records a report. Returns whether Discord refused an identify: the shard has a recent grant
    /// that is later than its last report.
    pub(crate) fn reported(&mut self, shard: u32, report: Report, now: Moment) -> bool {
        let mut is_refused = false;
        self.record(shard, now, 0, |known| {
            let granted = known.grants.back().filter(|_| known.is_identifying);
            let is_answer = granted.is_some_and(|granted| *granted + IDENTIFIES_WITHIN > now);
            is_refused = is_answer && report == Report::InvalidSession;
            known.is_identifying = false;
            known.last_report = Some((report, now));
            if is_refused {
                push(&mut known.invalid_sessions, now, MAX_INVALID_SESSIONS + 1);
            }
        });
        is_refused
    }

    /// Returns until when the shard has reached its limit of grants; none if it has not.
    pub(crate) fn limited_until(&self, shard: u32, now: Moment) -> Option<Moment> {
        let until = self.shards.get(&shard)?.limited_until(self.limit);
        until.filter(|until| *until > now)
    }

    /// Returns the time between two grants of a shard that is always at its limit, on average.
    pub(crate) fn pause(&self) -> Duration {
        let burst = u32::try_from(self.limit.burst).unwrap_or(u32::MAX);
        self.limit.window / burst.max(1)
    }

    /// Returns the shards with too many invalid sessions, in ascending order.
    pub(crate) fn degraded(&self) -> impl Iterator<Item = u32> {
        self.degraded.iter().map(|(shard, ..)| shard)
    }

    /// Lets invalid sessions expire.
    pub(crate) fn advance(&mut self, now: Moment) {
        while self.degraded.ended(now).is_some() {}
    }

    /// Returns when to call [`ShardHistory::advance`] next.
    pub(crate) fn advance_at(&self) -> Option<Moment> {
        self.degraded.next_end()
    }

    /// Returns at most `max` shards in ascending order. If there are more, those that are ready are
    /// left out first.
    pub(crate) fn states(&self, max: usize, now: Moment) -> Vec<ShardState> {
        let state = |(shard, known): (&u32, &Known)| known.state(*shard, now);
        if self.shards.len() <= max {
            return self.shards.iter().map(state).collect();
        }
        let is_ready = |shard: &&u32| !self.not_ready.contains(*shard);
        let ready = self.shards.keys().filter(is_ready);
        let mut shards: Vec<_> = self.not_ready.iter().chain(ready).take(max).collect();
        shards.sort();
        let known = shards.into_iter();
        let known = known.filter_map(|shard| self.shards.get_key_value(shard));
        known.map(state).collect()
    }

    /// Changes what is known of a shard after an event, which adds so many grants. The event is not
    /// recorded if there is no memory for it.
    fn record(&mut self, shard: u32, at: Moment, grants: usize, change: impl FnOnce(&mut Known)) {
        while self.is_full(shard, grants) {
            match self.forgettable.first().copied() {
                // A report alone, which costs nothing, does not replace what a grant was for.
                Some((was_granted, from, oldest)) if from <= at && (grants > 0 || !was_granted) => {
                    self.forget(oldest)
                }
                _ => return,
            };
        }
        let mut known = self.forget(shard).unwrap_or_default();
        change(&mut known);
        self.remember(shard, known, at);
    }

    /// Returns whether there is no memory for this shard, or for so many more grants.
    fn is_full(&self, shard: u32, grants: usize) -> bool {
        let is_new = !self.shards.contains_key(&shard);
        is_new && self.shards.len() >= MAX_SHARDS || self.grants + grants > MAX_GRANTS
    }

    fn remember(&mut self, shard: u32, known: Known, now: Moment) {
        self.grants += known.grants.len();
        let (was_granted, from) = known.forgettable(self.limit);
        self.forgettable.insert((was_granted, from, shard));
        if !known.is_ready() {
            self.not_ready.insert(shard);
        }
        if let Some(until) = known.degraded_until().filter(|until| *until > now) {
            self.degraded.insert(shard, until, ());
        }
        self.shards.insert(shard, known);
    }

    fn forget(&mut self, shard: u32) -> Option<Known> {
        let known = self.shards.remove(&shard)?;
        self.grants -= known.grants.len();
        let (was_granted, from) = known.forgettable(self.limit);
        self.forgettable.remove(&(was_granted, from, shard));
        self.not_ready.remove(&shard);
        self.degraded.remove(shard);
        Some(known)
    }
}

impl Known {
    /// Returns whether the shard is connected, by the last report.
    fn is_ready(&self) -> bool {
        let report = self.last_report.map(|(report, _)| report);
        !self.is_identifying && matches!(report, Some(Report::Ready | Report::Resumed))
    }

    fn limited_until(&self, limit: ShardLimit) -> Option<Moment> {
        let is_full = limit.burst > 0 && self.grants.len() >= limit.burst;
        let first = self.grants.front().filter(|_| is_full);
        first.map(|first| *first + limit.window)
    }

    fn degraded_until(&self) -> Option<Moment> {
        let is_degraded = self.invalid_sessions.len() > MAX_INVALID_SESSIONS;
        let first = self.invalid_sessions.front().filter(|_| is_degraded);
        first.map(|first| *first + INVALID_SESSION_WINDOW)
    }

    /// Returns whether the shard was granted, and the time of the last event or, if it is later, the
    /// end of the limit.
    fn forgettable(&self, limit: ShardLimit) -> (bool, Moment) {
        let reported = self.last_report.map(|(_, at)| at);
        let granted = self.grants.back().copied();
        let times = [reported, granted, self.limited_until(limit)];
        let from = times.into_iter().flatten().max().unwrap_or_default();
        (granted.is_some(), from)
    }

    fn state(&self, shard: u32, now: Moment) -> ShardState {
        let counts = |at: &&Moment| **at + INVALID_SESSION_WINDOW > now;
        ShardState {
            shard,
            last_grant: self.grants.back().copied(),
            last_report: self.last_report,
            invalid_sessions: self.invalid_sessions.iter().filter(counts).count(),
        }
    }
}

/// Adds a time to the last `kept` times.
fn push(times: &mut VecDeque<Moment>, at: Moment, kept: usize) {
    if times.len() >= kept {
        times.pop_front();
    }
    times.push_back(at);
}

#[cfg(test)]
mod tests;
