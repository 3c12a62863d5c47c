//! The breaker: a shard that was granted too often is held for a while, and others pass.
//!
//! A shard that crashes after each identify would use up the session starts of the whole bot. Once
//! it has reached its limit of grants, its waiters leave the wait list and keep their places; they
//! return when the oldest of these grants leaves the window. Requests without a valid shard are
//! never held: they may be of many shards.

use std::collections::BTreeMap;

use crate::pacing::pacer::{Pacer, Waiter, WaiterId};
use crate::pacing::reservations::Place;
use crate::pacing::shard_history::ShardState;
use crate::protocol::request::{Report, Shard};
use crate::time::Moment;

/// A shard that is held because it was granted too often, or was a moment ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashLooping {
    /// The id of the shard.
    pub shard: u32,
    /// When it may be granted again; a past moment if it may be granted now.
    pub released_at: Moment,
    /// The number of its waiters that are held.
    pub waiting: usize,
}

impl Pacer {
    /// Releases the shards that are held no longer, and forgets what has expired.
    pub fn advance(&mut self, now: Moment) {
        while let Some((_, released_at, waiters)) = self.held.ended(now) {
            for id in waiters.into_values() {
                let Some(waiter) = self.waiters.get_mut(id) else {
                    continue;
                };
                waiter.offered = waiter.offered.max(released_at);
                let waiting = waiter.waiting(id);
                self.insert_waiting(waiting);
            }
        }
        while self.crash_looping.ended(now).is_some() {}
        self.history.advance(now);
    }

    /// Returns when to call [`Pacer::advance`] next, if nothing happens before.
    pub fn advance_at(&self) -> Option<Moment> {
        let (held, looping) = (self.held.next_end(), self.crash_looping.next_end());
        let times = [held, looping, self.history.advance_at()];
        times.into_iter().flatten().min()
    }

    /// Takes the report of a shard. Discord refuses an identify that is too early for its bucket,
    /// so an invalid session after a grant blocks the bucket for one spacing.
    pub fn report(&mut self, shard: u32, report: Report, now: Moment) {
        if self.history.reported(shard, report, now) {
            self.block(self.bucket_of(shard), now + self.spacing);
        }
    }

    /// Returns when a waiter that is held is released; none if it is not held.
    pub fn released_at(&self, id: WaiterId) -> Option<Moment> {
        self.waiters.get(id)?.held_until(&self.held)
    }

    /// Returns when a shard that is held is released; none if it is not held.
    pub fn shard_released_at(&self, shard: u32) -> Option<Moment> {
        self.held.until(shard)
    }

    /// Returns whether a shard is held, or was a moment ago.
    pub fn is_crash_looping(&self, shard: u32) -> bool {
        self.crash_looping.until(shard).is_some()
    }

    /// Returns the number of crash-looping shards.
    pub fn crash_looping_count(&self) -> usize {
        self.crash_looping.len()
    }

    /// Returns the crash-looping shards in ascending order.
    pub fn crash_looping(&self) -> impl Iterator<Item = CrashLooping> {
        let shards = self.crash_looping.iter();
        shards.map(move |(shard, ..)| CrashLooping {
            shard,
            released_at: self.may_be_granted_at(shard),
            waiting: self.held.get(shard).map_or(0, BTreeMap::len),
        })
    }

    fn may_be_granted_at(&self, shard: u32) -> Moment {
        let limited_until = || self.history.limited_until(shard, Moment::ZERO);
        let until = self.held.until(shard).or_else(limited_until);
        until.unwrap_or(Moment::ZERO)
    }

    /// Returns the shards with more than 3 invalid sessions within ten minutes, in ascending order.
    pub fn degraded(&self) -> impl Iterator<Item = u32> {
        self.history.degraded()
    }

    /// Returns what is known of at most `max` shards, in ascending order. If there are more, those
    /// that are ready are left out first.
    pub fn shard_states(&self, max: usize, now: Moment) -> Vec<ShardState> {
        self.history.states(max, now)
    }

    /// Adds a new waiter to its wait list, or to those that are held.
    pub(super) fn join(&mut self, id: WaiterId, waiter: &Waiter, now: Moment) {
        let Shard {
            id: shard,
            is_valid,
        } = waiter.shard;
        let limited_until = self.history.limited_until(shard, now);
        match limited_until.filter(|_| is_valid) {
            Some(until) => self.hold(shard, until, [(waiter.place, id)]),
            None => self.insert_waiting(waiter.waiting(id)),
        }
    }

    /// Removes a waiter that is held. Returns whether it was.
    pub(super) fn remove_held(&mut self, waiter: &Waiter) -> bool {
        let waiters = self.held.get_mut(waiter.shard.id);
        waiters.is_some_and(|waiters| waiters.remove(&waiter.place).is_some())
    }

    /// Records a grant that was written. If its shard has reached its limit, the other waiters of
    /// this shard are held.
    pub(super) fn record_grant(&mut self, shard: Shard, at: Moment) {
        if !shard.is_valid {
            return;
        }
        self.history.granted(shard.id, at);
        let Some(until) = self.history.limited_until(shard.id, at) else {
            return;
        };
        let bucket = self.bucket_of(shard.id);
        let list = &mut self.buckets[bucket as usize].wait_list;
        let is_of_shard = |id: &WaiterId| {
            let waiter = self.waiters.get(*id);
            waiter.is_some_and(|waiter| waiter.shard == shard)
        };
        let others = list.iter().filter(|waiting| is_of_shard(&waiting.waiter));
        let others: Vec<_> = others
            .map(|waiting| (waiting.place, waiting.waiter))
            .collect();
        if others.is_empty() {
            return;
        }
        for (place, _) in &others {
            list.remove(*place);
        }
        self.reschedule(bucket);
        self.hold(shard.id, until, others);
    }

    /// Holds waiters of a shard until this moment. The shard counts as crash-looping for a while
    /// longer, until it would be held again if nothing has changed.
    fn hold(
        &mut self,
        shard: u32,
        until: Moment,
        waiters: impl IntoIterator<Item = (Place, WaiterId)>,
    ) {
        if self.held.until(shard).is_none() {
            self.held.insert(shard, until, BTreeMap::new());
            let pause = self.history.pause();
            self.crash_looping.insert(shard, until + pause, ());
        }
        if let Some(held) = self.held.get_mut(shard) {
            held.extend(waiters);
        }
    }
}
