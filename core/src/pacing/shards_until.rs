//! Shards, each with a value until a moment.

use std::collections::{BTreeMap, BTreeSet};

use crate::time::Moment;

/// Shards, each with a value until a moment. Every step takes O(log shards).
#[derive(Debug)]
pub(crate) struct ShardsUntil<T> {
    shards: BTreeMap<u32, (Moment, T)>,
    ends: BTreeSet<(Moment, u32)>,
}

impl<T> ShardsUntil<T> {
    pub(crate) fn new() -> Self {
        Self {
            shards: BTreeMap::new(),
            ends: BTreeSet::new(),
        }
    }

    /// Inserts a shard, or replaces its moment and its value.
    pub(crate) fn insert(&mut self, shard: u32, until: Moment, value: T) {
        self.remove(shard);
        self.shards.insert(shard, (until, value));
        self.ends.insert((until, shard));
    }

    pub(crate) fn remove(&mut self, shard: u32) -> Option<(Moment, T)> {
        let removed = self.shards.remove(&shard)?;
        self.ends.remove(&(removed.0, shard));
        Some(removed)
    }

    /// Returns until when the shard has its value.
    pub(crate) fn until(&self, shard: u32) -> Option<Moment> {
        self.shards.get(&shard).map(|(until, _)| *until)
    }

    pub(crate) fn get(&self, shard: u32) -> Option<&T> {
        self.shards.get(&shard).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, shard: u32) -> Option<&mut T> {
        self.shards.get_mut(&shard).map(|(_, value)| value)
    }

    /// Removes and returns a shard whose moment has come.
    pub(crate) fn ended(&mut self, now: Moment) -> Option<(u32, Moment, T)> {
        let (_, shard) = self.ends.first().copied().filter(|(at, _)| *at <= now)?;
        let (until, value) = self.remove(shard)?;
        Some((shard, until, value))
    }

    /// Returns the next moment at which a shard ends.
    pub(crate) fn next_end(&self) -> Option<Moment> {
        self.ends.first().map(|(at, _)| *at)
    }

    /// Returns the shards in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, Moment, &T)> {
        let shards = self.shards.iter();
        shards.map(|(shard, (until, value))| (*shard, *until, value))
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_in_order_and_end_at_their_moments() {
        let at = Moment::from_nanos;
        let mut shards = ShardsUntil::new();
        for (shard, until) in [(7, 30), (3, 20), (5, 20), (7, 10), (9, 5)] {
            shards.insert(shard, at(until), shard);
        }
        assert_eq!(shards.remove(9), Some((at(5), 9)));
        assert_eq!(shards.remove(9), None);
        let ids: Vec<_> = shards.iter().map(|(shard, ..)| shard).collect();
        assert_eq!((ids, shards.len()), (vec![3, 5, 7], 3));
        assert_eq!((shards.until(7), shards.until(9)), (Some(at(10)), None));
        assert_eq!(
            (shards.next_end(), shards.ended(at(9))),
            (Some(at(10)), None)
        );
        assert_eq!(shards.ended(at(20)), Some((7, at(10), 7)));
        assert_eq!(shards.ended(at(20)), Some((3, at(20), 3)));
        assert_eq!(shards.ended(at(20)), Some((5, at(20), 5)));
        assert_eq!((shards.next_end(), shards.ended(at(99))), (None, None));
    }
}
