//! The order and spacing of grants.
//!
//! Shard `s` waits in bucket `s % max_concurrency`. Each bucket grants on its own: first come,
//! first served, and two grants of one bucket are never closer together than the spacing.
//!
//! The spacing counts from the time at which a grant is *written* to the client's socket. So a
//! grant takes two calls: [`Pacer::grant`] picks the waiter and blocks its bucket, then
//! [`Pacer::written`] starts the spacing, or [`Pacer::unwritten`] unblocks the bucket for the next
//! waiter. The time of a call hardly depends on the number of waiters, except for a change of the
//! number of buckets, for a grant with which its shard reaches its limit, and for the position of a
//! waiter.

pub mod breaker;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::gateway_bot::MAX_BUCKETS;
use crate::leadership::term::ReceivedHandover;
use crate::pacing::agenda::{Agenda, Entry};
use crate::pacing::reservations::{Place, Reservations};
use crate::pacing::shard_history::{ShardHistory, ShardLimit};
use crate::pacing::shards_until::ShardsUntil;
pub use crate::pacing::wait_list::WaiterId;
use crate::pacing::wait_list::{WaitList, Waiting};
use crate::pacing::waiter_map::WaiterMap;
use crate::protocol::request::Shard;
use crate::time::Moment;

/// The permission of a waiter to identify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The waiter that is granted.
    pub waiter: WaiterId,
    /// The shard that will identify.
    pub shard: u32,
    /// The bucket of the shard.
    pub bucket: u32,
    /// When the request arrived; its reserved place may be older.
    pub arrived: Moment,
    /// The earliest time at which the bucket allowed the grant and the waiter was present.
    pub allowed: Moment,
}

/// The state of one bucket, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The number of the bucket.
    pub bucket: u32,
    /// When the next grant is allowed; a past moment, such as [`Moment::ZERO`], if it is allowed
    /// now.
    pub free_at: Moment,
    /// The number of waiting requests.
    pub waiting: usize,
    /// The waiting shards, the next one first, up to the requested number.
    pub shards: Vec<u32>,
}

/// The position of a waiter in its bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The number of waiters that are granted before it.
    pub ahead: usize,
    /// When it is granted if no waiter disconnects or takes a reservation, and enough session
    /// starts are left.
    pub granted_at: Moment,
}

#[derive(Debug)]
struct Waiter {
    shard: Shard,
    place: Place,
    arrived: Moment,
    /// When it was offered, or when its shard was released.
    offered: Moment,
}

/// The shards that are held, with all their waiters.
type Held = ShardsUntil<BTreeMap<Place, WaiterId>>;

/// A grant in flight: it is not known yet whether it was written.
#[derive(Debug)]
struct Writing {
    waiter: Waiter,
    /// None if the number of buckets has changed since.
    bucket: Option<u32>,
}

#[derive(Debug)]
struct Bucket {
    free_at: Moment,
    writing: bool,
    wait_list: WaitList,
    /// The entry of this bucket in the agenda.
    entry: Entry,
}

/// The waiters of all buckets, and when each bucket may grant.
#[derive(Debug)]
pub struct Pacer {
    spacing: Duration,
    buckets: Vec<Bucket>,
    waiters: WaiterMap<Waiter>,
    writing: HashMap<WaiterId, Writing>,
    /// The number of grants in `writing` from before a change of the number of buckets. Each counts
    /// for every bucket, so nothing is granted while there are any.
    moved: usize,
    reservations: Reservations,
    agenda: Agenda,
    seq: u64,
    history: ShardHistory,
    /// Its waiters are in no wait list.
    held: Held,
    /// The shards that are held, and those that were a moment ago.
    crash_looping: ShardsUntil<()>,
}

impl Pacer {
    /// Returns a pacer with the buckets of the predecessor, or with one; each waits as long as
    /// the handover demands.
    pub fn new(
        spacing: Duration,
        reservation_ttl: Duration,
        limit: ShardLimit,
        handover: &ReceivedHandover,
    ) -> Self {
        let mut buckets = handover.free_at.clone();
        if buckets.is_empty() || buckets.len() > MAX_BUCKETS as usize {
            let latest = buckets.into_iter().fold(handover.all_free_at, Moment::max);
            buckets = vec![latest];
        }
        Self {
            spacing,
            buckets: buckets.into_iter().map(Bucket::new).collect(),
            waiters: WaiterMap::new(),
            writing: HashMap::new(),
            moved: 0,
            reservations: Reservations::new(reservation_ttl),
            agenda: Agenda::default(),
            seq: 0,
            history: ShardHistory::new(limit),
            held: ShardsUntil::new(),
            crash_looping: ShardsUntil::new(),
        }
    }

    /// Returns the number of buckets.
    pub fn concurrency(&self) -> u32 {
        // At most `MAX_BUCKETS`.
        self.buckets.len() as u32
    }

    /// Adds a waiter of `shard` that arrives at `now`. It takes the oldest reservation of its
    /// shard. Returns whether there was one. `id` must be new.
    pub fn offer(&mut self, id: WaiterId, shard: u32, now: Moment) -> bool {
        self.offer_from(id, shard.into(), now, now)
    }

    /// Adds a waiter of `shard` that arrived in another process at `arrived`. Its place is that of
    /// its arrival or of its reservation, whichever is older. Returns whether there was a
    /// reservation. `id` must be new.
    pub fn offer_from(&mut self, id: WaiterId, shard: Shard, arrived: Moment, now: Moment) -> bool {
        self.advance(now);
        let kept = self.reservations.take(shard.id, now);
        let place = match kept {
            Some(kept) => Place {
                arrived: kept.arrived.min(arrived),
                seq: kept.seq,
            },
            None => {
                self.seq += 1;
                Place {
                    arrived,
                    seq: self.seq,
                }
            }
        };
        let waiter = Waiter {
            shard,
            place,
            arrived,
            offered: now,
        };
        self.join(id, &waiter, now);
        self.waiters.insert(id, waiter);
        kept.is_some()
    }

    /// Removes a waiter that disconnected, and reserves its place. Returns whether it was waiting.
    pub fn cancel(&mut self, id: WaiterId, now: Moment) -> bool {
        let Some(waiter) = self.waiters.remove(id) else {
            return false;
        };
        if !self.remove_held(&waiter) {
            self.remove_waiting(&waiter);
        }
        self.reservations.leave(waiter.shard.id, waiter.place, now);
        true
    }

    /// Returns a grant for the next waiter. Its bucket is blocked until the caller reports
    /// [`Pacer::written`] or [`Pacer::unwritten`].
    pub fn grant(&mut self, now: Moment) -> Option<Grant> {
        if self.moved > 0 {
            return None;
        }
        self.open(now);
        let bucket = self.agenda.first()?;
        let lane = &mut self.buckets[bucket as usize];
        let id = lane.wait_list.pop_first()?.waiter;
        lane.writing = true;
        let free_at = lane.free_at;
        self.reschedule(bucket);
        let waiter = self.waiters.remove(id)?;
        let grant = Grant {
            waiter: id,
            shard: waiter.shard.id,
            bucket,
            arrived: waiter.arrived,
            allowed: waiter.offered.max(free_at),
        };
        let bucket = Some(bucket);
        self.writing.insert(id, Writing { waiter, bucket });
        Some(grant)
    }

    /// Records that the grant was written to the client's socket at `at`, or may have been. The
    /// spacing of the bucket starts there. Returns whether the grant was in flight.
    pub fn written(&mut self, id: WaiterId, at: Moment) -> bool {
        let Some(writing) = self.writing.remove(&id) else {
            return false;
        };
        let free_at = at + self.spacing;
        match writing.bucket {
            Some(bucket) => self.settle(bucket, free_at),
            None => {
                self.moved -= 1;
                for bucket in 0..self.concurrency() {
                    self.block(bucket, free_at);
                }
            }
        }
        self.record_grant(writing.waiter.shard, at);
        true
    }

    /// Records that no byte of the grant was written, as the waiter disconnected. Its place is
    /// reserved, and its bucket may grant again. Returns whether the grant was in flight.
    pub fn unwritten(&mut self, id: WaiterId, now: Moment) -> bool {
        let Some(writing) = self.writing.remove(&id) else {
            return false;
        };
        let Waiter { shard, place, .. } = writing.waiter;
        self.reservations.leave(shard.id, place, now);
        match writing.bucket {
            Some(bucket) => self.settle(bucket, Moment::ZERO),
            None => self.moved -= 1,
        }
        true
    }

    /// Sets the number of buckets, as Discord changed `max_concurrency`. Waiters move to their new
    /// buckets and keep their order. Each new bucket may overlap with any of the old ones, so it
    /// waits for the latest of them. Returns false, and changes nothing, if `buckets` is not 1 to
    /// [`MAX_BUCKETS`].
    pub fn set_concurrency(&mut self, buckets: u32) -> bool {
        if buckets == 0 || buckets > MAX_BUCKETS {
            return false;
        }
        if buckets == self.concurrency() {
            return true;
        }
        let latest = self.buckets.iter().map(|b| b.free_at).max();
        let free_at = latest.unwrap_or(Moment::ZERO);
        let new = (0..buckets).map(|_| Bucket::new(free_at)).collect();
        let old = std::mem::replace(&mut self.buckets, new);
        self.agenda = Agenda::default();
        for writing in self.writing.values_mut() {
            writing.bucket = None;
        }
        self.moved = self.writing.len();
        let waiting = old.iter().flat_map(|bucket| bucket.wait_list.iter());
        let mut waiting: Vec<_> = waiting.collect();
        waiting.sort_unstable_by_key(|waiting| waiting.place);
        for waiting in waiting {
            let bucket = self.bucket_of(waiting.shard);
            self.buckets[bucket as usize].wait_list.insert(waiting);
        }
        for bucket in 0..buckets {
            self.reschedule(bucket);
        }
        true
    }

    /// Returns when to call [`Pacer::grant`] next, if nothing happens before.
    pub fn wake_at(&self) -> Option<Moment> {
        self.agenda.wake_at().filter(|_| self.moved == 0)
    }

    /// Returns the position of a waiter; none if it is not waiting in its bucket.
    pub fn position(&self, id: WaiterId, now: Moment) -> Option<Position> {
        let waiter = self.waiters.get(id)?;
        if waiter.held_until(&self.held).is_some() {
            return None;
        }
        let lane = &self.buckets[self.bucket_of(waiter.shard.id) as usize];
        let ahead = lane.wait_list.ahead_of(waiter.place);
        let free_at = match lane.writing || self.moved > 0 {
            // A grant is in flight.
            true => now + self.spacing,
            false => lane.free_at.max(now),
        };
        let grants = u32::try_from(ahead).unwrap_or(u32::MAX);
        Some(Position {
            ahead,
            granted_at: free_at + self.spacing.saturating_mul(grants),
        })
    }

    /// Returns how long each bucket must still wait. No grant may be in flight.
    pub fn waits(&self, now: Moment) -> Vec<Duration> {
        let wait = |bucket: &Bucket| bucket.free_at.since(now);
        self.buckets.iter().map(wait).collect()
    }

    /// Returns whether a grant is in flight.
    pub fn is_writing(&self) -> bool {
        !self.writing.is_empty()
    }

    /// Returns all buckets, with at most `shards` waiting shards of each, for people. It takes
    /// O(buckets + blocks of waiters + returned shards).
    pub fn lanes(&self, shards: usize) -> impl Iterator<Item = Lane> {
        (0..).zip(&self.buckets).map(move |(bucket, lane)| Lane {
            bucket,
            free_at: lane.free_at,
            waiting: lane.wait_list.len(),
            shards: lane
                .wait_list
                .iter()
                .map(|s| s.shard)
                .take(shards)
                .collect(),
        })
    }

    fn bucket_of(&self, shard: u32) -> u32 {
        shard % self.concurrency()
    }

    /// Adds a waiter to the wait list of its bucket.
    fn insert_waiting(&mut self, waiting: Waiting) {
        let bucket = self.bucket_of(waiting.shard);
        self.buckets[bucket as usize].wait_list.insert(waiting);
        self.reschedule(bucket);
    }

    /// Removes a waiter from the wait list of its bucket.
    fn remove_waiting(&mut self, waiter: &Waiter) {
        let bucket = self.bucket_of(waiter.shard.id);
        self.buckets[bucket as usize].wait_list.remove(waiter.place);
        self.reschedule(bucket);
    }

    /// Ends the grant in flight of this bucket.
    fn settle(&mut self, bucket: u32, free_at: Moment) {
        self.buckets[bucket as usize].writing = false;
        self.block(bucket, free_at);
    }

    /// Blocks a bucket until `free_at`, or longer if it is.
    fn block(&mut self, bucket: u32, free_at: Moment) {
        let lane = &mut self.buckets[bucket as usize];
        lane.free_at = lane.free_at.max(free_at);
        self.reschedule(bucket);
    }

    /// Updates the entry of a bucket in the agenda after a change of the bucket.
    fn reschedule(&mut self, bucket: u32) {
        let lane = &self.buckets[bucket as usize];
        let entry = if lane.writing || lane.wait_list.is_empty() {
            Entry::Nowhere
        } else {
            Entry::Later(lane.free_at)
        };
        self.set_entry(bucket, entry);
    }

    fn set_entry(&mut self, bucket: u32, new: Entry) {
        let old = std::mem::replace(&mut self.buckets[bucket as usize].entry, new);
        if old != new {
            self.agenda.replace(bucket, old, new);
        }
    }

    /// Lets the buckets grant that may grant at `now`.
    fn open(&mut self, now: Moment) {
        while let Some(bucket) = self.agenda.opened(now) {
            let first = self.buckets[bucket as usize].wait_list.first();
            let entry = first.map_or(Entry::Nowhere, |first| Entry::Now(first.place));
            self.set_entry(bucket, entry);
        }
    }
}

impl Waiter {
    fn waiting(&self, waiter: WaiterId) -> Waiting {
        Waiting {
            place: self.place,
            waiter,
            shard: self.shard.id,
        }
    }

    /// Returns until when its shard is held.
    fn held_until(&self, held: &Held) -> Option<Moment> {
        held.until(self.shard.id).filter(|_| self.shard.is_valid)
    }
}

impl Bucket {
    fn new(free_at: Moment) -> Self {
        Self {
            free_at,
            writing: false,
            wait_list: WaitList::default(),
            entry: Entry::Nowhere,
        }
    }
}

#[cfg(test)]
mod tests;
