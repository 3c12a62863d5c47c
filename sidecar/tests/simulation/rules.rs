//! The rules, and the violation of one.

use std::fmt;

use crate::clock::{SECOND, True};

/// What must always hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// Two grants of a bucket are never too close.
    Spacing,
    /// No two pods may grant at one instant.
    TwoLeaders,
    /// No leader grants a shard more often than it may.
    Burst,
    /// No grant without a session start.
    Budget,
    /// A pod grants soon after the last fault.
    Silence,
    /// A pod that may not grant exports nothing that only a leader knows.
    Exports,
    /// No process ends unless it is killed.
    Panic,
}

#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    pub(crate) at: True,
    pub(crate) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at as f64 / SECOND as f64;
        write!(f, "{:?} at {at:.3} s: {}", self.rule, self.what)
    }
}
