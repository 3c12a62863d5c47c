//! Failures of the queue's pods, their network and the API server. Waiting shards see nothing
//! but a delay.
//!
//! Each test lets plain clients wait on pods of its choice, breaks one thing meanwhile, and
//! checks what the clients saw. The clients run in the test, which also reaches the processes
//! and the network of the pods: so these tests run on the machine of the node, as root.

mod agent;
mod api_server_outage;
mod api_server_restart;
mod changes;
mod clients;
mod invalid_sessions;
pub(crate) mod node;
mod pair;
mod pods;
mod queue;
mod shards;
mod unreachable_leader;

use std::time::Duration;

use gateway_queue_e2e::waits::{self, Figures, Wait};

use crate::kubectl::say;

/// The interval that Discord enforces.
const INTERVAL: Duration = Duration::from_secs(5);

/// The queue's spacing of the grants of a bucket.
const SPACING: Duration = Duration::from_millis(5250);

/// The longest time without a grant in a bucket with waiting clients.
const NO_SLOT_LOST: Duration = SPACING.saturating_add(Duration::from_millis(250));

/// The duration of a Lease after its last renewal.
const LEASE: Duration = Duration::from_secs(15);

/// How long a pod is stopped or cut off: longer than a Lease and all that follows from it.
const FAULT: Duration = Duration::from_secs(40);

/// The longest time from a fault to the next grant: the Lease expires, then a spacing passes, by
/// a clock that may be 5 % off, on a busy machine.
fn back_within() -> Duration {
    (LEASE + SPACING).mul_f64(1.05) + Duration::from_secs(2)
}

/// What the clients saw.
struct Outcome {
    waits: Vec<Wait>,
    figures: Figures,
}

impl Outcome {
    fn list(&self) -> String {
        waits::list(&self.waits)
    }

    fn grants(&self) -> Vec<Duration> {
        waits::grants(&self.waits)
    }

    /// Prints the figures of a scenario, and asserts that no grant was too early.
    fn print_none_too_early(&self, scenario: &str, more: &str) {
        say(&format!("{scenario}: {:.3?}{more}", self.figures));
        let earliest = self
            .figures
            .shortest_spacing
            .expect("no two grants in a bucket");
        assert!(earliest >= INTERVAL, "{earliest:?}\n{}", self.list());
    }

    /// Asserts that no connection was closed or refused: of clients of one target, or of any.
    fn no_connection_closed(&self, target: Option<&str>) {
        let mut waits = self.waits.clone();
        waits.retain(|wait| target.is_none_or(|target| wait.target == target));
        let figures = Figures::of(&waits, Duration::ZERO);
        let failed = (figures.closed, figures.refused);
        assert_eq!(failed, (0, 0), "{}", waits::list(&waits));
    }

    /// Asserts that the clients of the other pod saw nothing but a delay after a fault of the
    /// leader. A grant within the first second is still from the old leader.
    fn only_a_delay(&self, scenario: &str, fault: Duration) {
        let mut grants = self.grants().into_iter();
        let next = grants.find(|at| *at > fault + Duration::from_secs(1));
        let after = next.expect("no grant after the fault") - fault;
        let more = format!(", granted {:.1} s after the fault", after.as_secs_f64());
        self.print_none_too_early(scenario, &more);
        self.no_connection_closed(Some("other"));
        assert!(after <= back_within(), "{}", self.list());
    }
}
