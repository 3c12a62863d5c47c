//! A map by the id of a waiter.
//!
//! Ids are consecutive, so waiters that arrive after each other share a group. A step reads a small
//! map of the groups, and the waiter. The hash of that map is keyed, because clients decide which
//! waiters remain.

use std::collections::HashMap;

use crate::pacing::wait_list::WaiterId;

/// The number of ids in a group. One waiter that remains keeps the memory of so many.
const GROUP: usize = 32;

/// A map by the id of a waiter. Every step takes O(1) on average.
#[derive(Debug)]
pub(crate) struct WaiterMap<T> {
    groups: HashMap<u64, Box<Group<T>>>,
}

#[derive(Debug)]
struct Group<T> {
    values: [Option<T>; GROUP],
    len: usize,
}

impl<T> WaiterMap<T> {
    pub(crate) fn new() -> Self {
        Self {
            groups: HashMap::new(),
        }
    }

    pub(crate) fn insert(&mut self, id: WaiterId, value: T) {
        let (number, index) = split(id);
        let group = self.groups.entry(number).or_default();
        if group.values[index].replace(value).is_none() {
            group.len += 1;
        }
    }

    pub(crate) fn remove(&mut self, id: WaiterId) -> Option<T> {
        let (number, index) = split(id);
        let group = self.groups.get_mut(&number)?;
        let removed = group.values[index].take()?;
        group.len -= 1;
        if group.len == 0 {
            self.groups.remove(&number);
        }
        Some(removed)
    }

    pub(crate) fn get(&self, id: WaiterId) -> Option<&T> {
        let (number, index) = split(id);
        self.groups.get(&number)?.values[index].as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: WaiterId) -> Option<&mut T> {
        let (number, index) = split(id);
        self.groups.get_mut(&number)?.values[index].as_mut()
    }
}

impl<T> Default for Group<T> {
    fn default() -> Self {
        Self {
            values: [const { None }; GROUP],
            len: 0,
        }
    }
}

/// Returns the number of the group of an id, and the index in it.
fn split(WaiterId(id): WaiterId) -> (u64, usize) {
    (id / GROUP as u64, id as usize % GROUP)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_behaves_like_the_map_of_the_standard_library(
            steps in prop::collection::vec((any::<bool>(), 0..100_u64, any::<u8>()), 0..200),
        ) {
            let mut map = WaiterMap::new();
            let mut model = BTreeMap::new();
            for (is_inserted, id, value) in steps {
                let waiter = WaiterId(id);
                if is_inserted {
                    map.insert(waiter, value);
                    model.insert(id, value);
                } else {
                    prop_assert_eq!(map.remove(waiter), model.remove(&id));
                }
                prop_assert_eq!(map.get(waiter), model.get(&id));
                prop_assert_eq!(map.get_mut(waiter), model.get_mut(&id));
                let groups: BTreeSet<_> = model.keys().map(|id| id / GROUP as u64).collect();
                prop_assert_eq!(map.groups.len(), groups.len());
            }
        }
    }
}
