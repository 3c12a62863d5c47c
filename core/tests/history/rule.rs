//! The rules that every history must keep, and how a violation is reported.

use std::fmt;

use gateway_queue_core::time::Moment;

/// What must always hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// Two grants of a bucket are at least the spacing apart.
    Spacing,
    /// No shard is granted more often than it may be.
    Burst,
    /// No grant without a session start.
    Budget,
    /// No grant while the session starts are unknown, or without an accepted token.
    Blocked,
    /// No grant to a disconnected client.
    Disconnected,
    /// First come, first served, including reservations.
    Order,
    /// A waiter that may be granted is granted at that instant.
    Waste,
    /// No waiter waits forever.
    Starved,
    /// Discord is asked neither too often nor too rarely.
    Fetches,
}

#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    at: Moment,
    what: String,
}

pub(crate) type Verdict = Result<(), Violation>;

impl Rule {
    /// Returns a violation of this rule unless `holds`.
    pub(crate) fn check(self, holds: bool, at: Moment, what: impl FnOnce() -> String) -> Verdict {
        if holds {
            return Ok(());
        }
        let (rule, what) = (self, what());
        Err(Violation { rule, at, what })
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.since(Moment::ZERO).as_secs_f64();
        write!(f, "{:?} at {at}: {}", self.rule, self.what)
    }
}
