//! The places of those who went away.
//!
//! A client that gives up waiting usually asks again: Node's fetch after 300 s,
//! discord.py after 60 s. In a long queue it would start at the end each time
//! and never be granted. So its place is kept for a while, for the next request
//! of the same shard id. An empty place never takes a slot.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::moment::Moment;

/// More empty places than this are not kept: who makes waiters come and go at
/// that rate is no Discord bot, and memory must have a bound.
const MOST: usize = 200_000;

/// Where a waiter stands: who came earlier goes first, and of two that came at
/// the same moment the one that was seen first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// When the waiter came.
    pub arrived: Moment,
    /// The how-many-th waiter it was.
    pub seq: u64,
}

/// An empty place, and until when it is kept.
type Empty = (Place, Moment);

/// The empty places.
#[derive(Debug)]
pub(crate) struct Places {
    kept_for: Duration,
    /// The oldest place first.
    by_shard: HashMap<u32, VecDeque<Empty>>,
    /// In the order in which they were left, which is the order in which they
    /// expire. What was taken meanwhile is still in here.
    expiring: VecDeque<(u32, Empty)>,
}

impl Places {
    pub(crate) fn new(kept_for: Duration) -> Self {
        Self {
            kept_for,
            by_shard: HashMap::new(),
            expiring: VecDeque::new(),
        }
    }

    /// The waiter of `shard` at `place` went away.
    pub(crate) fn leave(&mut self, shard: u32, place: Place, now: Moment) {
        self.forget_expired(now);
        if self.expiring.len() >= MOST {
            self.forget_first();
        }
        let empty = (place, now + self.kept_for);
        let of_shard = self.by_shard.entry(shard).or_default();
        let at = of_shard.partition_point(|e| *e < empty);
        of_shard.insert(at, empty);
        self.expiring.push_back((shard, empty));
    }

    /// The oldest empty place of `shard`, which is then taken.
    pub(crate) fn take(&mut self, shard: u32, now: Moment) -> Option<Place> {
        self.forget_expired(now);
        let of_shard = self.by_shard.get_mut(&shard)?;
        let (place, _) = of_shard.pop_front()?;
        if of_shard.is_empty() {
            self.by_shard.remove(&shard);
        }
        Some(place)
    }

    fn forget_expired(&mut self, now: Moment) {
        while let Some((_, (_, until))) = self.expiring.front()
            && *until <= now
        {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        let Some((shard, empty)) = self.expiring.pop_front() else {
            return;
        };
        if let Some(of_shard) = self.by_shard.get_mut(&shard) {
            if let Ok(at) = of_shard.binary_search(&empty) {
                of_shard.remove(at);
            }
            if of_shard.is_empty() {
                self.by_shard.remove(&shard);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: Duration = Duration::from_secs(60);

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
        let mut places = Places::new(KEPT);
        places.leave(7, place(5), at(1));
        places.leave(7, place(2), at(2));
        places.leave(8, place(1), at(2));
        assert_eq!(places.take(7, at(3)), Some(place(2)));
        assert_eq!(places.take(7, at(3)), Some(place(5)));
        assert_eq!(places.take(7, at(3)), None);
    }

    #[test]
    fn a_place_is_kept_for_its_time_and_no_longer() {
        let mut places = Places::new(KEPT);
        places.leave(7, place(1), at(0));
        places.leave(7, place(2), at(1));
        assert_eq!(places.take(7, at(60)), Some(place(2)));
        assert!(places.by_shard.is_empty() && places.take(7, at(60)).is_none());
    }

    #[test]
    fn who_leaves_a_second_time_has_the_whole_time_again() {
        let mut places = Places::new(KEPT);
        places.leave(7, place(1), at(0));
        assert_eq!(places.take(7, at(1)), Some(place(1)));
        places.leave(7, place(1), at(45));
        assert_eq!(places.take(7, at(104)), Some(place(1)));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_go_first() {
        let mut places = Places::new(KEPT);
        for seq in 0..=MOST as u64 {
            places.leave(seq as u32, place(seq), at(0));
        }
        assert_eq!(places.expiring.len(), MOST);
        assert_eq!(places.by_shard.len(), MOST);
        assert_eq!(places.take(0, at(1)), None);
        assert_eq!(places.take(1, at(1)), Some(place(1)));
    }
}
