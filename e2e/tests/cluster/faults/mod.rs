//! Failures of the queue's pods, their network and the API server. Waiting shards see nothing
//! but a delay.
//!
//! Each test lets plain clients wait on pods of its choice, breaks one thing meanwhile, and
//! checks what the clients saw. The clients run in the test, which also reaches the processes
//! and the network of the pods: so these tests run on the machine of the node, as root.

mod api_server_outage;
mod api_server_restart;
mod clients;
mod crash;
mod freeze;
pub(crate) mod node;
mod pair;
mod partition;
mod process;
mod queue;
mod rollout;
mod scale;
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

/// Prints the figures of a scenario.
fn print(scenario: &str, figures: &Figures, more: &str) {
    say(&format!("{scenario}: {figures}{more}"));
}

/// The time from a fault to the first grant of a new leader. A grant within the first second is
/// still from the old one.
fn resumed<'a>(waits: impl IntoIterator<Item = &'a Wait>, fault: Duration) -> Duration {
    let grants = waits::grants(waits);
    let mut later = grants
        .iter()
        .filter(|at| **at > fault + Duration::from_secs(1));
    *later.next().expect("no grant after the fault") - fault
}

fn none_too_early(figures: &Figures, waits: &[Wait]) {
    let earliest = figures.earliest.expect("no two grants in a bucket");
    assert!(earliest >= INTERVAL, "{earliest:?}\n{}", waits::list(waits));
}

fn no_connection_closed<'a>(waits: impl IntoIterator<Item = &'a Wait>) {
    let waits: Vec<_> = waits.into_iter().cloned().collect();
    let Figures {
        closed, refused, ..
    } = Figures::of(&waits, Duration::ZERO);
    assert_eq!((closed, refused), (0, 0), "{}", waits::list(&waits));
}
