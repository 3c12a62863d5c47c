//! The places of those who went away.
//!
//! A client that gives up waiting usually asks again: Node's fetch after 300 s,
//! discord.py after 60 s. In a long queue it would start at the end each time
//! and never be granted. So its place is kept for a while, for the next request
//! of the same shard id. An empty place never takes a slot.
//!
//! Anybody can make up shard ids, so both the memory and the time of each step
//! are bounded: there are at most `MOST` empty places, in three sorted trees
//! whose nodes are small and of a fixed size, and a step removes at most
//! `EXPIRED_EACH` expired ones. Those that are left over are never taken.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::time::Moment;

/// No more empty places than this are kept. The largest bots have half as many
/// shards.
pub const MOST: usize = 32_768;

/// The memory of one of them, in bytes, when the nodes of the trees are as empty as
/// they may be.
pub const MEMORY_EACH: u64 = 256;

/// How many expired places one step removes, which takes microseconds. A step adds
/// one at most, so that they cannot pile up.
const EXPIRED_EACH: usize = 16;

/// Where a waiter stands: who came earlier goes first, and of two that came at
/// the same moment the one that was seen first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// When the waiter came.
    pub arrived: Moment,
    /// The how-many-th waiter it was.
    pub seq: u64,
}

impl Place {
    const FIRST: Self = Self {
        arrived: Moment::ZERO,
        seq: 0,
    };
    const LAST: Self = Self {
        arrived: Moment::from_nanos(u64::MAX),
        seq: u64::MAX,
    };
}

/// The empty places.
#[derive(Debug)]
pub(crate) struct Reservations {
    ttl: Duration,
    /// Whose it was.
    empty: BTreeMap<Place, u32>,
    /// Until when it is kept.
    by_shard: BTreeMap<(u32, Place), Moment>,
    expiring: BTreeSet<(Moment, Place)>,
}

impl Reservations {
    pub(crate) fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            empty: BTreeMap::new(),
            by_shard: BTreeMap::new(),
            expiring: BTreeSet::new(),
        }
    }

    /// The waiter of `shard` at `place` went away.
    pub(crate) fn leave(&mut self, shard: u32, place: Place, now: Moment) {
        self.forget_expired(now);
        let until = now + self.ttl;
        self.empty.insert(place, shard);
        self.by_shard.insert((shard, place), until);
        self.expiring.insert((until, place));
        // Who came last has the least to lose.
        if self.empty.len() > MOST
            && let Some((last, _)) = self.empty.last_key_value()
        {
            self.forget(*last);
        }
    }

    /// The oldest empty place of `shard`, which is then taken.
    pub(crate) fn take(&mut self, shard: u32, now: Moment) -> Option<Place> {
        self.forget_expired(now);
        let of_shard = (shard, Place::FIRST)..=(shard, Place::LAST);
        let mut of_shard = self.by_shard.range(of_shard);
        let (&(_, place), _) = of_shard.find(|(_, until)| **until > now)?;
        self.forget(place);
        Some(place)
    }

    fn forget_expired(&mut self, now: Moment) {
        for _ in 0..EXPIRED_EACH {
            match self.expiring.first().copied() {
                Some((until, place)) if until <= now => self.forget(place),
                _ => return,
            }
        }
    }

    fn forget(&mut self, place: Place) {
        let shard = self.empty.remove(&place);
        let until = shard.and_then(|shard| self.by_shard.remove(&(shard, place)));
        if let Some(until) = until {
            self.expiring.remove(&(until, place));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Moment {
        Moment::from_nanos(seconds * 1_000_000_000)
    }

    fn place(seq: u64) -> Place {
        Place {
            arrived: at(0),
            seq,
        }
    }

    #[test]
    fn the_oldest_empty_place_of_the_shard_is_taken_first() {
        let mut places = Reservations::new(TTL);
        places.leave(7, place(5), at(1));
        places.leave(7, place(2), at(2));
        places.leave(8, place(1), at(2));
        assert_eq!(places.take(7, at(3)), Some(place(2)));
        assert_eq!(places.take(7, at(3)), Some(place(5)));
        assert_eq!(places.take(7, at(3)), None);
    }

    #[test]
    fn a_place_is_kept_for_its_time_and_no_longer() {
        let mut places = Reservations::new(TTL);
        places.leave(7, place(1), at(0));
        places.leave(7, place(2), at(1));
        assert_eq!(places.take(7, at(60)), Some(place(2)));
        assert!(places.by_shard.is_empty() && places.take(7, at(60)).is_none());
    }

    #[test]
    fn who_leaves_a_second_time_has_the_whole_time_again() {
        let mut places = Reservations::new(TTL);
        places.leave(7, place(1), at(0));
        assert_eq!(places.take(7, at(1)), Some(place(1)));
        places.leave(7, place(1), at(45));
        assert_eq!(places.take(7, at(104)), Some(place(1)));
    }

    #[test]
    fn memory_is_bounded_and_who_came_last_loses_its_place() {
        let mut places = Reservations::new(TTL);
        for seq in 0..=MOST as u64 {
            places.leave(seq as u32, place(seq), at(0));
        }
        assert_eq!(places.empty.len(), MOST);
        assert_eq!(places.by_shard.len(), MOST);
        assert_eq!(places.expiring.len(), MOST);
        assert_eq!(places.take(MOST as u32, at(1)), None);
        assert_eq!(places.take(0, at(1)), Some(place(0)));
    }

    #[test]
    fn many_that_expire_at_once_are_forgotten_a_few_at_each_step_and_never_taken() {
        let mut places = Reservations::new(TTL);
        for seq in 1..MOST as u64 {
            places.leave(7, place(seq), at(0));
        }
        places.leave(7, place(1 << 32), at(59));
        // All but the last have expired, and it is taken nevertheless.
        assert_eq!(places.take(7, at(60)), Some(place(1 << 32)));
        let mut before = places.empty.len();
        while !places.empty.is_empty() {
            assert_eq!(places.take(7, at(61)), None);
            let after = places.empty.len();
            assert!(after < before && before - after <= EXPIRED_EACH);
            assert_eq!(after, places.by_shard.len());
            assert_eq!(after, places.expiring.len());
            before = after;
        }
    }

    #[test]
    fn who_comes_and_goes_again_and_again_costs_nobody_else_a_place() {
        let mut places = Reservations::new(TTL);
        places.leave(1, place(1), at(0));
        for _ in 0..MOST + 1 {
            places.leave(5, place(9), at(1));
            assert_eq!(places.take(5, at(1)), Some(place(9)));
        }
        assert_eq!(places.empty.len(), 1);
        assert_eq!(places.take(1, at(2)), Some(place(1)));
    }
}
