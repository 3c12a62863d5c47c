//! The leader is killed.

use std::time::Duration;

use gateway_queue_e2e::waits::{Figures, tell};

use super::pair::Pair;
use super::process::Process;
use super::{back_within, no_connection_closed, none_too_early, print, resumed};
use crate::kubectl::{Namespace, wait_for};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn when_the_leader_is_killed_those_on_another_pod_notice_nothing_but_time() {
    let namespace = Namespace::new("crash");
    let Pair {
        queue,
        leader,
        crowd,
        ..
    } = Pair::with_clients_on_both(&namespace);
    let before = queue.holder();
    let fault = crowd.now();
    Process::of(&leader).kill();
    // The other pod takes the Lease, or the container that replaces the killed one.
    let next = wait_for("a new holder of the Lease", PATIENCE, || {
        (queue.holder() != before).then(|| queue.leader_now())?
    });
    wait_for("the new leader in the status", PATIENCE, || {
        (queue.leader_in_the_status() == next.name).then_some(())
    });
    let waits = crowd.served(Duration::from_secs(60));

    let figures = Figures::of(&waits, crowd.now());
    let resumed = resumed(&waits, fault);
    let more = format!(", granted {:.1} s after the kill", resumed.as_secs_f64());
    print("2 kill -9 of the leader", &figures, &more);
    none_too_early(&figures, &waits);
    no_connection_closed(waits.iter().filter(|wait| wait.place == "other"));
    assert!(resumed <= back_within(), "{}", tell(&waits));
}
