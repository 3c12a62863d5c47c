//! What shards notice when the queue's pods, their network or the API server
//! fail: time passes, and nothing else.
//!
//! Each scenario has plain clients wait on pods of its choice, breaks one thing
//! while they wait, and judges what they saw. The clients run here, the pods'
//! processes and networks are reached from here: so these tests run on the
//! machine that is the node, and as root.

pub(crate) mod clients;
mod crash;
mod cut;
mod freeze;
pub(crate) mod node;
pub(crate) mod pair;
mod process;
pub(crate) mod queue;
mod reach;
mod rollout;
mod scale;
mod shards;

use std::io::Write as _;
use std::time::Duration;

use gateway_queue_e2e::waits::{self, Figures, Wait};

/// As Discord enforces it.
const INTERVAL: Duration = Duration::from_secs(5);

/// Between two grants of a bucket, as the queue keeps it.
const SPACING: Duration = Duration::from_millis(5250);

/// A bucket in which somebody waits is granted a turn within so long.
const NO_SLOT_LOST: Duration = SPACING.saturating_add(Duration::from_millis(250));

/// How long a leader is believed to lead after its last renewal.
pub(crate) const LEASE: Duration = Duration::from_secs(15);

/// How long a pod is stopped or cut off: longer than a Lease and all that follows from it.
const FAULT: Duration = Duration::from_secs(40);

/// How soon after a fault somebody is granted a turn: the Lease is waited out,
/// then a spacing, by a clock that may be 5 % off; and the machine is busy.
pub(crate) fn back_within() -> Duration {
    (LEASE + SPACING).mul_f64(1.05) + Duration::from_secs(2)
}

/// Prints the figures of a scenario.
pub(crate) fn print(scenario: &str, figures: &Figures, more: &str) {
    say(&format!("{scenario}: {figures}{more}"));
}

/// Prints a line also when the test passes: the harness keeps what is printed by
/// macros, and nothing else.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// How long after `fault` somebody was granted a turn by a leader that was not
/// there before: nobody leads within the first second.
fn resumed<'a>(waits: impl IntoIterator<Item = &'a Wait>, fault: Duration) -> Duration {
    let grants = waits::grants(waits);
    let next = grants
        .iter()
        .find(|at| **at > fault + Duration::from_secs(1));
    *next.expect("nobody was granted a turn after the fault") - fault
}

pub(crate) fn none_too_early(figures: &Figures, waits: &[Wait]) {
    let earliest = figures.earliest.expect("turns were granted");
    assert!(earliest >= INTERVAL, "{earliest:?}\n{}", waits::tell(waits));
}

pub(crate) fn no_connection_closed<'a>(waits: impl IntoIterator<Item = &'a Wait>) {
    let waits: Vec<_> = waits.into_iter().cloned().collect();
    let Figures {
        closed, refused, ..
    } = Figures::of(&waits, Duration::ZERO);
    assert_eq!((closed, refused), (0, 0), "{}", waits::tell(&waits));
}
