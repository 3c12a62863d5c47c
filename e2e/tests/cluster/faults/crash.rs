//! The leader is killed.

use std::time::Duration;

use gateway_queue_e2e::waits::{Figures, list};

use super::pair::Pair;
use super::process::Process;
use super::{back_within, no_connection_closed, none_too_early, print, resumed};
use crate::kubectl::Namespace;
use crate::wait::wait_for;

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn after_a_crash_of_the_leader_clients_of_another_pod_see_only_a_delay() {
    let namespace = Namespace::new("crash");
    let Pair {
        queue,
        leader,
        clients,
        ..
    } = Pair::with_clients_on_both(&namespace);
    let before = queue.holder();
    let fault = clients.now();
    Process::of(&leader).kill();
    // The new holder is the other pod, or the container that replaces the killed one.
    let next = wait_for("a new holder of the Lease", PATIENCE, || {
        (queue.holder() != before).then(|| queue.leader_now())?
    });
    wait_for("the new leader in the status", PATIENCE, || {
        (queue.leader_in_status() == next.name).then_some(())
    });
    let waits = clients.finish(PATIENCE);

    let figures = Figures::of(&waits, clients.now());
    let resumed = resumed(&waits, fault);
    let more = format!(", granted {:.1} s after the kill", resumed.as_secs_f64());
    print("kill -9 of the leader", &figures, &more);
    none_too_early(&figures, &waits);
    no_connection_closed(waits.iter().filter(|wait| wait.target == "other"));
    assert!(resumed <= back_within(), "{}", list(&waits));
}
