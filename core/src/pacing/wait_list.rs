//! The waiters of one bucket, in the order of their places.
//!
//! Blocks of waiters in a sorted list, so that neighbors are read together: with a million waiters,
//! what takes time is reading memory. The list also returns the number of waiters before a place,
//! which the standard library's map cannot.

use std::collections::VecDeque;

use crate::pacing::reservations::Place;

/// The maximum number of waiters in a block; one more is a power of two, as is its capacity. A step
/// searches one block, from the end at which waiters usually join or leave.
const MAX_BLOCK: usize = 127;

/// The id of a waiting request. Two requests of one shard are two waiters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId(pub u64);

/// A waiter in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) place: Place,
    pub(crate) waiter: WaiterId,
    pub(crate) shard: u32,
}

/// The waiters of one bucket, in the order of their places.
#[derive(Debug, Default)]
pub(crate) struct WaitList {
    /// In order.
    blocks: VecDeque<Block>,
}

/// Waiters that are next to each other in the order; at least one.
#[derive(Debug)]
struct Block {
    /// Waiters of this block are at or after this place; those of earlier blocks are before it.
    start: Place,
    waiters: VecDeque<Waiting>,
}

impl WaitList {
    /// Inserts a waiter. Its place must not be in the list.
    pub(crate) fn insert(&mut self, waiting: Waiting) {
        let place = waiting.place;
        if self.blocks.is_empty() {
            self.blocks.push_back(Block {
                start: place,
                waiters: VecDeque::new(),
            });
        }
        let index = self.block_of(place);
        let is_last = index + 1 == self.blocks.len();
        let block = &mut self.blocks[index];
        block.start = block.start.min(place);
        let after = block.waiters.iter().rev();
        let after = after.take_while(|other| other.place > place).count();
        block.waiters.insert(block.waiters.len() - after, waiting);
        if block.waiters.len() > MAX_BLOCK {
            // Waiters that arrive in order leave full blocks behind.
            let at = if is_last { MAX_BLOCK } else { MAX_BLOCK / 2 };
            let waiters = block.waiters.split_off(at);
            let start = waiters[0].place;
            self.blocks.insert(index + 1, Block { start, waiters });
        }
    }

    /// Removes and returns the waiter at `place`.
    pub(crate) fn remove(&mut self, place: Place) -> Option<Waiting> {
        let index = self.block_of(place);
        let block = self.blocks.get_mut(index)?;
        let mut waiters = block.waiters.iter();
        let at = waiters.position(|waiting| waiting.place == place)?;
        let removed = block.waiters.remove(at)?;
        if block.waiters.is_empty() {
            self.blocks.remove(index);
        }
        Some(removed)
    }

    /// Removes and returns the first waiter.
    pub(crate) fn pop_first(&mut self) -> Option<Waiting> {
        let block = self.blocks.front_mut()?;
        let first = block.waiters.pop_front();
        if block.waiters.is_empty() {
            self.blocks.pop_front();
        }
        first
    }

    /// Returns the first waiter.
    pub(crate) fn first(&self) -> Option<Waiting> {
        self.blocks
            .front()
            .and_then(|block| block.waiters.front().copied())
    }

    /// Returns whether there are no waiters.
    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Returns the number of waiters.
    pub(crate) fn len(&self) -> usize {
        self.blocks.iter().map(|block| block.waiters.len()).sum()
    }

    /// Returns the number of waiters before `place`.
    pub(crate) fn ahead_of(&self, place: Place) -> usize {
        let index = self.block_of(place);
        let blocks = self
            .blocks
            .iter()
            .take(index)
            .map(|block| block.waiters.len());
        let in_block = self.blocks.get(index).map_or(0, |b| b.before(place));
        blocks.sum::<usize>() + in_block
    }

    /// Returns all waiters in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Waiting> {
        self.blocks.iter().flat_map(|block| &block.waiters).copied()
    }

    /// Returns the index of the block that contains `place` if any does.
    fn block_of(&self, place: Place) -> usize {
        self.blocks
            .partition_point(|block| block.start <= place)
            .saturating_sub(1)
    }
}

impl Block {
    /// Returns the number of waiters before `place`.
    fn before(&self, place: Place) -> usize {
        self.waiters
            .partition_point(|waiting| waiting.place < place)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::time::Moment;

    fn place(arrived: u64, seq: u64) -> Place {
        Place {
            arrived: Moment::from_nanos(arrived),
            seq,
        }
    }

    fn waiting(place: Place) -> Waiting {
        Waiting {
            place,
            waiter: WaiterId(place.seq),
            shard: 7,
        }
    }

    proptest! {
        /// The sorted map of the standard library is the model.
        #[test]
        fn it_behaves_like_a_sorted_map(
            steps in prop::collection::vec((0..4, 0..40_u64, 0..40_u64), 0..2000),
        ) {
            let mut list = WaitList::default();
            let mut model = BTreeMap::new();
            for (step, arrived, seq) in steps {
                let place = place(arrived, seq);
                if step == 0 {
                    let first = model.pop_first().map(|(_, first)| first);
                    prop_assert_eq!(list.pop_first(), first);
                } else if let Some(expected) = model.remove(&place) {
                    prop_assert_eq!(list.remove(place), Some(expected));
                } else {
                    prop_assert_eq!(list.remove(place), None);
                    list.insert(waiting(place));
                    model.insert(place, waiting(place));
                }
                prop_assert_eq!(list.is_empty(), model.is_empty());
                prop_assert_eq!(list.len(), model.len());
                prop_assert_eq!(list.first(), model.values().next().copied());
                prop_assert_eq!(list.ahead_of(place), model.range(..place).count());
            }
            prop_assert!(list.iter().eq(model.values().copied()));
        }
    }

    #[test]
    fn blocks_are_limited_and_never_empty() {
        let mut list = WaitList::default();
        for seq in 0..100_000 {
            list.insert(waiting(place(seq, seq)));
        }
        let lens = || list.blocks.iter().map(|block| block.waiters.len());
        assert!(lens().all(|len| (1..=MAX_BLOCK).contains(&len)));
        assert!(list.blocks.len() <= 100_000 / MAX_BLOCK + 1);
        assert_eq!(list.ahead_of(place(99_999, 99_999)), 99_999);
        for seq in 0..100_000 {
            // 61 and 100,000 have no common divisor.
            let seq = seq * 61 % 100_000;
            assert!(list.remove(place(seq, seq)).is_some());
        }
        assert!(list.blocks.is_empty());
    }
}
