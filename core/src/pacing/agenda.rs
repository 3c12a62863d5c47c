//! Which bucket grants next.

use std::collections::BTreeSet;

use crate::pacing::reservations::Place;
use crate::time::Moment;

/// The entry of a bucket in the agenda.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// There are no waiters, or a grant is in flight.
    Nowhere,
    /// The next grant is allowed at this moment.
    Later(Moment),
    /// The waiter at this place may be granted.
    Now(Place),
}

/// Which bucket grants next.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    later: BTreeSet<(Moment, u32)>,
    /// The waiters of all buckets in one order, which matters if there are fewer session starts
    /// than buckets.
    now: BTreeSet<(Place, u32)>,
}

impl Agenda {
    /// Replaces the entry of a bucket.
    pub(crate) fn replace(&mut self, bucket: u32, old: Entry, new: Entry) {
        match old {
            Entry::Nowhere => false,
            Entry::Later(at) => self.later.remove(&(at, bucket)),
            Entry::Now(place) => self.now.remove(&(place, bucket)),
        };
        match new {
            Entry::Nowhere => false,
            Entry::Later(at) => self.later.insert((at, bucket)),
            Entry::Now(place) => self.now.insert((place, bucket)),
        };
    }

    /// Returns the bucket of the first waiter that may be granted.
    pub(crate) fn first(&self) -> Option<u32> {
        self.now.first().map(|(_, bucket)| *bucket)
    }

    /// Returns a bucket whose moment has come, but whose entry is still [`Entry::Later`].
    pub(crate) fn opened(&self, now: Moment) -> Option<u32> {
        let (at, bucket) = *self.later.first()?;
        (at <= now).then_some(bucket)
    }

    /// Returns when the next grant is allowed; [`Moment::ZERO`] if one is allowed already.
    pub(crate) fn wake_at(&self) -> Option<Moment> {
        match self.now.is_empty() {
            false => Some(Moment::ZERO),
            true => self.later.first().map(|(at, _)| *at),
        }
    }
}
