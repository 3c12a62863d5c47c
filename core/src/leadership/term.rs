//! The time in which one process leads, and what it takes over.

use std::time::Duration;

use crate::lease_state::Left;
use crate::time::Moment;

/// The time of one leader. A new one has another number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// Counts up.
    pub number: u64,
    /// The name of this leader in this term.
    pub holder: String,
    /// Until when the leader may grant. Each renewal moves it.
    pub until: Moment,
    /// What the leader before may have granted.
    pub inheritance: Inheritance,
}

/// What a new leader must wait out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inheritance {
    /// When each bucket may grant again; empty when that is not known.
    pub buckets: Vec<Moment>,
    /// When all may, if it is not known of each.
    pub others: Moment,
    /// How many session starts Discord may not have counted yet, if known.
    pub uncounted: Option<u64>,
}

impl Inheritance {
    /// There is no predecessor.
    pub const NOTHING: Self = Self {
        buckets: Vec::new(),
        others: Moment::ZERO,
        uncounted: Some(0),
    };

    /// What one leaves who never used its term: what it would have waited out.
    pub fn left(&self, lease: &str, spacing: Duration, now: Moment) -> Left {
        Left {
            lease: lease.to_owned(),
            // None of them, if none is known: all wait in full.
            waits: self.buckets.iter().map(|at| at.since(now)).collect(),
            spacing,
            uncounted: self.uncounted,
        }
    }

    /// There may be one, and nothing is known of it but that all buckets may
    /// grant again at `others`.
    pub fn unknown(others: Moment) -> Self {
        Self {
            buckets: Vec::new(),
            others,
            uncounted: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_never_used_its_term_hands_on_what_it_would_have_waited_out() {
        let at = |seconds| Moment::ZERO + Duration::from_secs(seconds);
        let spacing = Duration::from_secs(5);
        let mut inheritance = Inheritance {
            buckets: vec![at(3), at(12)],
            others: at(15),
            uncounted: Some(7),
        };
        let left = inheritance.left("uid", spacing, at(10));
        assert_eq!(left.waits, [Duration::ZERO, Duration::from_secs(2)]);
        assert_eq!((left.uncounted, left.spacing), (Some(7), spacing));
        // Nothing known of each: all wait in full.
        inheritance = Inheritance::unknown(at(15));
        let left = inheritance.left("uid", spacing, at(10));
        assert_eq!((left.waits.len(), left.uncounted), (0, None));
    }
}
