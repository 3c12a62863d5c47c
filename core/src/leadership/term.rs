//! The time in which one process is the leader, and what it knows of the leader before.

use std::time::Duration;

use crate::lease_state::Handover;
use crate::time::Moment;

/// The time in which one process is the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// The number of the term in this process, which counts up.
    pub number: u64,
    /// The holder of the Lease: this leader's name in this term.
    pub holder: String,
    /// The end of the right to grant. Each renewal extends it.
    pub until: Moment,
    /// What is known of the leader before.
    pub handover: ReceivedHandover,
}

/// What a new leader must wait for, by its own clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedHandover {
    /// When each bucket may grant again; empty if unknown.
    pub free_at: Vec<Moment>,
    /// When all buckets may grant again, used if it is not known of each.
    pub all_free_at: Moment,
    /// The session starts that Discord may not have counted; none if unknown.
    pub uncounted: Option<u64>,
}

impl ReceivedHandover {
    /// There was no leader before.
    pub const NONE: Self = Self {
        free_at: Vec::new(),
        all_free_at: Moment::ZERO,
        uncounted: Some(0),
    };

    /// Returns the handover of an unknown leader, whose buckets may grant again at `all_free_at`.
    pub fn unknown(all_free_at: Moment) -> Self {
        Self {
            free_at: Vec::new(),
            all_free_at,
            uncounted: None,
        }
    }

    /// Returns the handover of a leader that granted nothing: what it still had to wait for.
    pub fn pass_on(&self, lease: &str, spacing: Duration, now: Moment) -> Handover {
        Handover {
            lease: lease.to_owned(),
            // Empty if unknown: then all buckets wait in full.
            waits: self.free_at.iter().map(|at| at.since(now)).collect(),
            spacing,
            uncounted: self.uncounted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_that_granted_nothing_passes_on_what_it_had_to_wait_for() {
        let at = |seconds| Moment::ZERO + Duration::from_secs(seconds);
        let spacing = Duration::from_secs(5);
        let received = ReceivedHandover {
            free_at: vec![at(3), at(12)],
            all_free_at: at(15),
            uncounted: Some(7),
        };
        let handover = received.pass_on("uid", spacing, at(10));
        assert_eq!(handover.waits, [Duration::ZERO, Duration::from_secs(2)]);
        assert_eq!((handover.uncounted, handover.spacing), (Some(7), spacing));

        let handover = ReceivedHandover::unknown(at(15)).pass_on("uid", spacing, at(10));
        assert_eq!((handover.waits.len(), handover.uncounted), (0, None));
    }
}
