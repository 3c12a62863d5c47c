//! Knows the rules, and true time.

use std::fmt;
use std::time::Duration;

use gateway_queue_core::time::Moment;

use crate::clock::{MILLI, SECOND, True};

/// What clocks lose when their nanoseconds are rounded.
const ROUNDING: Duration = Duration::from_micros(1);

/// No spacing is longer.
const LONGEST_SPACING: True = 10 * SECOND;

/// What must always hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// Two grants of a bucket are never too close.
    Spacing,
    /// No two may grant at one instant.
    TwoLeaders,
    /// No session start is spent that is not there.
    Budget,
    /// Soon after the last fault somebody grants.
    Silence,
    /// A pod that may not grant exports nothing that only a leader knows.
    Exports,
    /// Nothing ends a process but what is meant to.
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

/// A grant that was written to a client's socket.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) pod: usize,
    pub(crate) term: u64,
    pub(crate) bucket: u32,
    /// How many buckets there were.
    pub(crate) buckets: u32,
    /// The granter's.
    pub(crate) spacing: Duration,
    /// By the granter's clock.
    pub(crate) shown: Moment,
}

/// Remembers the grants of the last seconds.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    recent: Vec<(True, Written)>,
}

impl Judge {
    /// Something is wrong with this grant and an earlier one, if anything.
    pub(crate) fn written(&mut self, grant: Written, now: True) -> Result<(), Violation> {
        self.recent
            .retain(|(at, _)| now.saturating_sub(*at) < LONGEST_SPACING);
        for (at, earlier) in &self.recent {
            // Nobody knows which buckets overlap when their number changes.
            let one_bucket = earlier.bucket == grant.bucket || earlier.buckets != grant.buckets;
            let one_term = (earlier.pod, earlier.term) == (grant.pod, grant.term);
            let apart = match one_term {
                true => grant.shown.since(earlier.shown),
                false => Duration::from_nanos(now - at) + ROUNDING,
            };
            if one_bucket && apart < grant.spacing {
                let ago = (now - at) / MILLI;
                let what = format!("{grant:?} only {ago} ms after {earlier:?}");
                return Err(Violation {
                    rule: Rule::Spacing,
                    at: now,
                    what,
                });
            }
        }
        self.recent.push((now, grant));
        Ok(())
    }
}
