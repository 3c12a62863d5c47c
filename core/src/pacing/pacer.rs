//! Who may identify, and when.
//!
//! Shard `s` waits in bucket `s % max_concurrency`. Each bucket has a clock of
//! its own: first come, first served, and two grants of one bucket are never
//! closer together than the spacing.
//!
//! This is the heart of the program, and it is pure: waiters, limits and the
//! present moment go in; grants and the next moment to look again come out.
//! A grant takes three steps, because what counts is when it is *written* to
//! the client's socket: [`Pacer::grant`] picks the waiter and keeps its bucket
//! shut, then [`Pacer::written`] starts the bucket's clock, or
//! [`Pacer::unwritten`] gives the slot to the next. Every step takes
//! O(log waiters + log buckets), but for a change of the number of buckets.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::gateway_bot::MAX_BUCKETS;
use crate::leadership::term::ReceivedHandover;
use crate::pacing::reservations::{Place, Reservations};
pub use crate::pacing::wait_list::WaiterId;
use crate::pacing::wait_list::{WaitList, Waiting};
use crate::time::Moment;

/// A waiter's turn has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Whose turn it is.
    pub waiter: WaiterId,
    /// The shard that will identify.
    pub shard: u32,
    /// Its bucket.
    pub bucket: u32,
    /// When the waiter came (not its kept place, which may be older).
    pub arrived: Moment,
    /// The earliest moment at which its bucket allowed it and it was here.
    pub allowed: Moment,
}

/// What one bucket looks like from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The bucket.
    pub bucket: u32,
    /// When its next grant is allowed; [`Moment::ZERO`] or a past moment when
    /// that is now.
    pub free_at: Moment,
    /// How many wait in it.
    pub waiting: usize,
    /// Their shards, the next one first, as many as were asked for.
    pub shards: Vec<u32>,
}

/// Where a waiter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// How many of its bucket go before it.
    pub ahead: usize,
    /// When its turn comes if nobody leaves or returns. Session starts are not
    /// counted.
    pub turn_at: Moment,
}

#[derive(Debug)]
struct Waiter {
    shard: u32,
    place: Place,
    arrived: Moment,
    offered: Moment,
}

/// A grant that was given out and is not known to be written yet.
#[derive(Debug)]
struct Writing {
    waiter: Waiter,
    /// None when the buckets were changed meanwhile.
    bucket: Option<u32>,
}

#[derive(Debug)]
struct Bucket {
    free_at: Moment,
    writing: bool,
    wait_list: WaitList,
    /// Where this bucket stands in the agenda.
    entry: Entry,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    /// Nobody waits, or a grant is being written.
    Nowhere,
    /// Somebody waits for this moment.
    Later(Moment),
    /// The waiter of this place may go.
    Now(Place),
}

/// Which bucket is to be looked at next.
#[derive(Debug, Default)]
struct Agenda {
    later: BTreeSet<(Moment, u32)>,
    /// Across the buckets, too, who came first goes first: it matters when
    /// there are fewer session starts than buckets.
    now: BTreeSet<(Place, u32)>,
}

/// See the module.
#[derive(Debug)]
pub struct Pacer {
    spacing: Duration,
    buckets: Vec<Bucket>,
    waiters: HashMap<WaiterId, Waiter>,
    writing: HashMap<WaiterId, Writing>,
    /// How many of `writing` belong to buckets that are no more. While there
    /// are any, nothing is granted: each of them counts for every bucket.
    moved: usize,
    reservations: Reservations,
    agenda: Agenda,
    seq: u64,
}

impl Pacer {
    /// Returns a pacer with the buckets of the predecessor, or with one; each waits as long as
    /// the handover demands.
    pub fn new(spacing: Duration, reservation_ttl: Duration, handover: &ReceivedHandover) -> Self {
        let mut buckets = handover.free_at.clone();
        if buckets.is_empty() || buckets.len() > MAX_BUCKETS as usize {
            let latest = buckets.into_iter().fold(handover.all_free_at, Moment::max);
            buckets = vec![latest];
        }
        Self {
            spacing,
            buckets: buckets.into_iter().map(Bucket::new).collect(),
            waiters: HashMap::new(),
            writing: HashMap::new(),
            moved: 0,
            reservations: Reservations::new(reservation_ttl),
            agenda: Agenda::default(),
            seq: 0,
        }
    }

    /// How many buckets there are.
    pub fn concurrency(&self) -> u32 {
        // At most `MAX_BUCKETS`.
        self.buckets.len() as u32
    }

    /// How many wait, in all buckets.
    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// A waiter of `shard` that came at `now`. It takes the oldest place that
    /// is kept for its shard. True when one was kept. `id` must be new.
    pub fn offer(&mut self, id: WaiterId, shard: u32, now: Moment) -> bool {
        self.offer_from(id, shard, now, now)
    }

    /// As [`Pacer::offer`], of a waiter that came to another queue at `arrived`. Its
    /// place is the older one of that and of the place that is kept for its shard.
    pub fn offer_from(&mut self, id: WaiterId, shard: u32, arrived: Moment, now: Moment) -> bool {
        let kept = self.reservations.take(shard, now);
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
        let bucket = self.bucket_of(shard);
        self.buckets[bucket as usize]
            .wait_list
            .insert(waiter.waiting(id));
        self.reschedule(bucket);
        self.waiters.insert(id, waiter);
        kept.is_some()
    }

    /// The waiter went away. Its place is kept. False when it did not wait any
    /// more.
    pub fn cancel(&mut self, id: WaiterId, now: Moment) -> bool {
        let Some(waiter) = self.waiters.remove(&id) else {
            return false;
        };
        let bucket = self.bucket_of(waiter.shard);
        self.buckets[bucket as usize].wait_list.remove(waiter.place);
        self.reschedule(bucket);
        self.reservations.leave(waiter.shard, waiter.place, now);
        true
    }

    /// The next waiter whose turn has come. Its bucket stays shut until the
    /// caller says [`Pacer::written`] or [`Pacer::unwritten`].
    pub fn grant(&mut self, now: Moment) -> Option<Grant> {
        if self.moved > 0 {
            return None;
        }
        self.open(now);
        let (place, bucket) = *self.agenda.now.first()?;
        let lane = &mut self.buckets[bucket as usize];
        let id = lane.wait_list.remove(place)?.waiter;
        lane.writing = true;
        let free_at = lane.free_at;
        self.reschedule(bucket);
        let waiter = self.waiters.remove(&id)?;
        let grant = Grant {
            waiter: id,
            shard: waiter.shard,
            bucket,
            arrived: waiter.arrived,
            allowed: waiter.offered.max(free_at),
        };
        self.writing.insert(
            id,
            Writing {
                waiter,
                bucket: Some(bucket),
            },
        );
        Some(grant)
    }

    /// The grant went into the client's socket at `at`, or it cannot be ruled
    /// out: the bucket's clock starts there. False when there was no such grant.
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
                    let lane = &mut self.buckets[bucket as usize];
                    lane.free_at = lane.free_at.max(free_at);
                    self.reschedule(bucket);
                }
            }
        }
        true
    }

    /// The grant did not reach the socket, not a byte of it: the slot is free
    /// again, and the waiter went away. False when there was no such grant.
    pub fn unwritten(&mut self, id: WaiterId, now: Moment) -> bool {
        let Some(writing) = self.writing.remove(&id) else {
            return false;
        };
        let Waiter { shard, place, .. } = writing.waiter;
        self.reservations.leave(shard, place, now);
        match writing.bucket {
            Some(bucket) => self.settle(bucket, Moment::ZERO),
            None => self.moved -= 1,
        }
        true
    }

    /// Discord changed `max_concurrency`. Waiters move to their new buckets in
    /// the order in which they came. Which of the old buckets a new one
    /// overlaps does not matter to Discord, so each takes the latest clock of
    /// all. False, and nothing is changed, when `buckets` is not 1 to
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
        self.buckets = (0..buckets).map(|_| Bucket::new(free_at)).collect();
        self.agenda = Agenda::default();
        for writing in self.writing.values_mut() {
            writing.bucket = None;
        }
        self.moved = self.writing.len();
        for (id, waiter) in &self.waiters {
            let bucket = waiter.shard % buckets;
            let lane = &mut self.buckets[bucket as usize];
            lane.wait_list.insert(waiter.waiting(*id));
        }
        for bucket in 0..buckets {
            self.reschedule(bucket);
        }
        true
    }

    /// When to ask [`Pacer::grant`] again, if nothing happens before.
    pub fn wake_at(&self) -> Option<Moment> {
        if self.moved > 0 {
            return None;
        }
        if !self.agenda.now.is_empty() {
            return Some(Moment::ZERO);
        }
        self.agenda.later.first().map(|(at, _)| *at)
    }

    /// Where the waiter stands; none when it does not wait any more.
    pub fn position(&self, id: WaiterId, now: Moment) -> Option<Position> {
        let waiter = self.waiters.get(&id)?;
        let lane = &self.buckets[self.bucket_of(waiter.shard) as usize];
        let ahead = lane.wait_list.ahead_of(waiter.place);
        let free_at = match lane.writing || self.moved > 0 {
            // About to be written.
            true => now + self.spacing,
            false => lane.free_at.max(now),
        };
        let turns = u32::try_from(ahead).unwrap_or(u32::MAX);
        Some(Position {
            ahead,
            turn_at: free_at + self.spacing.saturating_mul(turns),
        })
    }

    /// Returns how long each bucket must still wait. No grant may be in flight.
    pub fn waits(&self, now: Moment) -> Vec<Duration> {
        let wait = |bucket: &Bucket| bucket.free_at.since(now);
        self.buckets.iter().map(wait).collect()
    }

    /// Whether a grant is on its way to a socket.
    pub fn is_writing(&self) -> bool {
        !self.writing.is_empty()
    }

    /// All buckets, for people to look at, with at most so many `shards` that
    /// wait in each. It takes as long as these are many, or the buckets.
    pub fn lanes(&self, shards: usize) -> impl Iterator<Item = Lane> {
        (0..).zip(&self.buckets).map(move |(bucket, lane)| Lane {
            bucket,
            free_at: lane.free_at,
            waiting: lane.wait_list.len(),
            shards: lane
                .wait_list
                .iter()
                .take(shards)
                .map(|s| s.shard)
                .collect(),
        })
    }

    fn bucket_of(&self, shard: u32) -> u32 {
        shard % self.concurrency()
    }

    /// The grant that was being written in this bucket is done.
    fn settle(&mut self, bucket: u32, free_at: Moment) {
        let lane = &mut self.buckets[bucket as usize];
        lane.writing = false;
        lane.free_at = lane.free_at.max(free_at);
        self.reschedule(bucket);
    }

    /// Puts the bucket where it belongs in the agenda, after any change of it.
    fn reschedule(&mut self, bucket: u32) {
        let lane = &mut self.buckets[bucket as usize];
        let entry = match lane.wait_list.len() {
            0 => Entry::Nowhere,
            _ if lane.writing => Entry::Nowhere,
            _ => Entry::Later(lane.free_at),
        };
        let old = std::mem::replace(&mut lane.entry, entry);
        self.agenda.replace(bucket, old, entry);
    }

    /// Moves the buckets whose moment has come from `later` to `now`.
    fn open(&mut self, now: Moment) {
        while let Some((at, bucket)) = self.agenda.later.first().copied()
            && at <= now
        {
            let lane = &mut self.buckets[bucket as usize];
            let entry = match lane.wait_list.first() {
                Some(first) => Entry::Now(first.place),
                None => Entry::Nowhere,
            };
            let old = std::mem::replace(&mut lane.entry, entry);
            self.agenda.replace(bucket, old, entry);
        }
    }
}

impl Waiter {
    fn waiting(&self, waiter: WaiterId) -> Waiting {
        Waiting {
            place: self.place,
            waiter,
            shard: self.shard,
        }
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

impl Agenda {
    fn replace(&mut self, bucket: u32, old: Entry, new: Entry) {
        if old == new {
            return;
        }
        match old {
            Entry::Nowhere => {}
            Entry::Later(at) => {
                self.later.remove(&(at, bucket));
            }
            Entry::Now(place) => {
                self.now.remove(&(place, bucket));
            }
        }
        match new {
            Entry::Nowhere => {}
            Entry::Later(at) => {
                self.later.insert((at, bucket));
            }
            Entry::Now(place) => {
                self.now.insert((place, bucket));
            }
        }
    }
}

#[cfg(test)]
mod tests;
