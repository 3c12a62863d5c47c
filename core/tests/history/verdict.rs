//! The rules, and how a broken one is told.

use std::fmt;

use gateway_queue_core::time::Moment;

/// What must always hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// Two grants of a bucket are never too close, and none is too young.
    Spacing,
    /// No grant without a session start.
    Budget,
    /// No grant while the session starts are unknown, or without a good token.
    Held,
    /// No grant to those who went away.
    Gone,
    /// First come, first served, kept places included.
    Order,
    /// Whoever may go goes at that instant.
    Waste,
    /// Nobody waits for ever.
    Starved,
    /// Discord is asked neither too often nor too seldom.
    Fetches,
}

#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    at: Moment,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.since(Moment::ZERO).as_secs_f64();
        write!(f, "{:?} at {at}: {}", self.rule, self.what)
    }
}

pub(crate) type Verdict = Result<(), Violation>;

pub(crate) fn hold_that(
    right: bool,
    rule: Rule,
    at: Moment,
    what: impl FnOnce() -> String,
) -> Verdict {
    if right {
        return Ok(());
    }
    let what = what();
    Err(Violation { rule, at, what })
}

impl Violation {
    pub(crate) fn new(rule: Rule, at: Moment, what: String) -> Self {
        Self { rule, at, what }
    }
}
