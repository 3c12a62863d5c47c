//! The reservations: the places of disconnected waiters.
//!
//! A client that stops waiting usually retries: Node's fetch after 300 s, discord.py after 60 s. In
//! a long queue it would start at the end each time and never be granted. So its place is reserved
//! for a while, for the next request of the same shard. A reservation never takes a grant.
//!
//! Clients can invent shard ids, so both the memory and the time of each step are bounded: there
//! are at most `MAX_RESERVATIONS`, in three sorted trees whose nodes are small and of a fixed size,
//! and a step removes at most `EXPIRED_PER_STEP` expired ones. Others that expired are not used.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::time::Moment;

/// The maximum number of reservations. The largest bots have half as many shards.
pub const MAX_RESERVATIONS: usize = 32_768;

/// The memory of one reservation in bytes, if the nodes of the trees are as empty as possible.
pub const RESERVATION_BYTES: u64 = 256;

/// The number of expired reservations that one step removes, which takes microseconds. A step adds
/// at most one, so they cannot accumulate.
const EXPIRED_PER_STEP: usize = 16;

/// The place of a waiter in the order of grants: by arrival, then by sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// When the request arrived.
    pub arrived: Moment,
    /// The sequence number of the request.
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

/// The reservations of all buckets.
#[derive(Debug)]
pub(crate) struct Reservations {
    ttl: Duration,
    /// The shard of each reserved place.
    empty: BTreeMap<Place, u32>,
    /// When each reservation expires.
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

    /// Reserves the place of a waiter of `shard` that disconnected.
    pub(crate) fn leave(&mut self, shard: u32, place: Place, now: Moment) {
        self.forget_expired(now);
        // The last place is the least valuable.
        if self.empty.len() >= MAX_RESERVATIONS
            && let Some((&last, _)) = self.empty.last_key_value()
        {
            if place > last {
                return;
            }
            self.forget(last);
        }
        let until = now + self.ttl;
        self.empty.insert(place, shard);
        self.by_shard.insert((shard, place), until);
        self.expiring.insert((until, place));
    }

    /// Removes and returns the oldest reserved place of `shard`.
    pub(crate) fn take(&mut self, shard: u32, now: Moment) -> Option<Place> {
        self.forget_expired(now);
        let of_shard = (shard, Place::FIRST)..=(shard, Place::LAST);
        let mut of_shard = self.by_shard.range(of_shard);
        let (&(_, place), _) = of_shard.find(|(_, until)| **until > now)?;
        self.forget(place);
        Some(place)
    }

    fn forget_expired(&mut self, now: Moment) {
        for _ in 0..EXPIRED_PER_STEP {
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
    fn the_oldest_reservation_of_the_shard_is_taken_first() {
        let mut places = Reservations::new(TTL);
        places.leave(7, place(5), at(1));
        places.leave(7, place(2), at(2));
        places.leave(8, place(1), at(2));
        assert_eq!(places.take(7, at(3)), Some(place(2)));
        assert_eq!(places.take(7, at(3)), Some(place(5)));
        assert_eq!(places.take(7, at(3)), None);
    }

    #[test]
    fn a_reservation_expires() {
        let mut places = Reservations::new(TTL);
        places.leave(7, place(1), at(0));
        places.leave(7, place(2), at(1));
        assert_eq!(places.take(7, at(60)), Some(place(2)));
        assert!(places.by_shard.is_empty() && places.take(7, at(60)).is_none());
    }

    #[test]
    fn a_second_reservation_of_a_place_lasts_the_whole_time() {
        let mut places = Reservations::new(TTL);
        places.leave(7, place(1), at(0));
        assert_eq!(places.take(7, at(1)), Some(place(1)));
        places.leave(7, place(1), at(45));
        assert_eq!(places.take(7, at(104)), Some(place(1)));
    }

    #[test]
    fn memory_is_bounded_and_the_last_place_is_dropped() {
        let mut places = Reservations::new(TTL);
        for seq in 0..=MAX_RESERVATIONS as u64 {
            places.leave(seq as u32, place(seq), at(0));
        }
        assert_eq!(places.empty.len(), MAX_RESERVATIONS);
        assert_eq!(places.by_shard.len(), MAX_RESERVATIONS);
        assert_eq!(places.expiring.len(), MAX_RESERVATIONS);
        assert_eq!(places.take(MAX_RESERVATIONS as u32, at(1)), None);
        assert_eq!(places.take(0, at(1)), Some(place(0)));
    }

    #[test]
    fn reservations_that_expire_together_are_removed_in_several_steps_and_not_used() {
        let mut places = Reservations::new(TTL);
        for seq in 1..MAX_RESERVATIONS as u64 {
            places.leave(7, place(seq), at(0));
        }
        places.leave(7, place(1 << 32), at(59));
        // All but the last have expired, and it is taken nevertheless.
        assert_eq!(places.take(7, at(60)), Some(place(1 << 32)));
        let mut before = places.empty.len();
        while !places.empty.is_empty() {
            assert_eq!(places.take(7, at(61)), None);
            let after = places.empty.len();
            assert!(after < before && before - after <= EXPIRED_PER_STEP);
            assert_eq!(after, places.by_shard.len());
            assert_eq!(after, places.expiring.len());
            before = after;
        }
    }

    #[test]
    fn a_client_that_reconnects_often_displaces_no_reservation() {
        let mut places = Reservations::new(TTL);
        places.leave(1, place(1), at(0));
        for _ in 0..MAX_RESERVATIONS + 1 {
            places.leave(5, place(9), at(1));
            assert_eq!(places.take(5, at(1)), Some(place(9)));
        }
        assert_eq!(places.empty.len(), 1);
        assert_eq!(places.take(1, at(2)), Some(place(1)));
    }
}
