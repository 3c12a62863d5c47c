//! The waiters of one bucket, in the order of their places.
//!
//! A search tree by place with the size of each branch, so that it also returns the number of
//! waiters before a place, which the standard library's map cannot. It is a treap: also a heap by a
//! pseudo-random rank, which keeps it balanced with high probability. Every step takes
//! O(log waiters).

use crate::pacing::reservations::Place;

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
    root: Branch,
}

type Branch = Option<Box<Node>>;

#[derive(Debug)]
struct Node {
    waiting: Waiting,
    /// The number of nodes in this branch, including this one.
    size: usize,
    before: Branch,
    after: Branch,
}

impl WaitList {
    /// Inserts a waiter. Its place must not be in the list.
    pub(crate) fn insert(&mut self, waiting: Waiting) {
        insert(&mut self.root, Node::alone(waiting));
    }

    /// Removes and returns the waiter at `place`.
    pub(crate) fn remove(&mut self, place: Place) -> Option<Waiting> {
        remove(&mut self.root, place)
    }

    /// Returns the first waiter.
    pub(crate) fn first(&self) -> Option<Waiting> {
        let mut node = self.root.as_deref()?;
        while let Some(before) = &node.before {
            node = before;
        }
        Some(node.waiting)
    }

    /// Returns the number of waiters.
    pub(crate) fn len(&self) -> usize {
        size(&self.root)
    }

    /// Returns the number of waiters before `place`.
    pub(crate) fn ahead_of(&self, place: Place) -> usize {
        let mut ahead = 0;
        let mut branch = &self.root;
        while let Some(node) = branch {
            if node.waiting.place < place {
                ahead += size(&node.before) + 1;
                branch = &node.after;
            } else {
                branch = &node.before;
            }
        }
        ahead
    }

    /// Returns all waiters in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Waiting> {
        let mut open = Vec::new();
        let mut branch = &self.root;
        std::iter::from_fn(move || {
            while let Some(node) = branch {
                open.push(node);
                branch = &node.before;
            }
            let node = open.pop()?;
            branch = &node.after;
            Some(node.waiting)
        })
    }
}

impl Node {
    fn alone(waiting: Waiting) -> Box<Self> {
        Box::new(Self {
            waiting,
            size: 1,
            before: None,
            after: None,
        })
    }

    /// Returns the rank; a parent's is higher than its children's. It mixes the bits of the
    /// sequence number as splitmix64 does, so that neighbors differ.
    fn rank(&self) -> u64 {
        let mut bits = self.waiting.place.seq.wrapping_add(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn count(&mut self) {
        self.size = size(&self.before) + 1 + size(&self.after);
    }
}

fn size(branch: &Branch) -> usize {
    branch.as_ref().map_or(0, |node| node.size)
}

fn insert(branch: &mut Branch, mut new: Box<Node>) {
    match branch {
        Some(node) if node.rank() >= new.rank() => {
            let side = match new.waiting.place < node.waiting.place {
                true => &mut node.before,
                false => &mut node.after,
            };
            insert(side, new);
            node.count();
        }
        _ => {
            (new.before, new.after) = split(branch.take(), new.waiting.place);
            new.count();
            *branch = Some(new);
        }
    }
}

fn remove(branch: &mut Branch, place: Place) -> Option<Waiting> {
    let node = branch.as_mut()?;
    let side = match place.cmp(&node.waiting.place) {
        std::cmp::Ordering::Less => &mut node.before,
        std::cmp::Ordering::Greater => &mut node.after,
        std::cmp::Ordering::Equal => {
            let waiting = node.waiting;
            *branch = join(node.before.take(), node.after.take());
            return Some(waiting);
        }
    };
    let removed = remove(side, place);
    node.count();
    removed
}

/// Splits a branch into the waiters before `place` and the others.
fn split(branch: Branch, place: Place) -> (Branch, Branch) {
    let Some(mut node) = branch else {
        return (None, None);
    };
    if node.waiting.place < place {
        let (before, after) = split(node.after.take(), place);
        node.after = before;
        node.count();
        (Some(node), after)
    } else {
        let (before, after) = split(node.before.take(), place);
        node.before = after;
        node.count();
        (before, Some(node))
    }
}

/// Joins two branches. All waiters of `before` must be before all of `after`.
fn join(before: Branch, after: Branch) -> Branch {
    match (before, after) {
        (Some(mut first), Some(second)) if first.rank() >= second.rank() => {
            first.after = join(first.after.take(), Some(second));
            first.count();
            Some(first)
        }
        (first @ Some(_), Some(mut second)) => {
            second.before = join(first, second.before.take());
            second.count();
            Some(second)
        }
        (first, second) => first.or(second),
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

    fn depth(branch: &Branch) -> usize {
        match branch {
            Some(node) => 1 + depth(&node.before).max(depth(&node.after)),
            None => 0,
        }
    }

    proptest! {
        /// The sorted map of the standard library is the model.
        #[test]
        fn it_behaves_like_a_sorted_map(
            steps in prop::collection::vec((any::<bool>(), 0..40_u64, 0..40_u64), 0..200),
        ) {
            let mut list = WaitList::default();
            let mut model = BTreeMap::new();
            for (comes, arrived, seq) in steps {
                let place = place(arrived, seq);
                if comes && !model.contains_key(&place) {
                    list.insert(waiting(place));
                    model.insert(place, waiting(place));
                } else {
                    prop_assert_eq!(list.remove(place), model.remove(&place));
                }
                prop_assert_eq!(list.len(), model.len());
                prop_assert_eq!(list.first(), model.values().next().copied());
                prop_assert_eq!(list.ahead_of(place), model.range(..place).count());
            }
            prop_assert!(list.iter().eq(model.values().copied()));
        }
    }

    #[test]
    fn it_stays_balanced_if_waiters_arrive_in_order() {
        let mut list = WaitList::default();
        for seq in 0..100_000 {
            list.insert(waiting(place(seq, seq)));
        }
        assert!(depth(&list.root) < 60, "{}", depth(&list.root));
        assert_eq!(list.ahead_of(place(99_999, 99_999)), 99_999);
    }
}
