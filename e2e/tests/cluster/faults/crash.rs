//! The leader is killed.

use std::time::Duration;

use gateway_queue_e2e::waits::{Figures, tell};

use super::pair::Pair;
use super::process::Process;
use super::{back_within, no_connection_closed, none_too_early, print, resumed};
use crate::kubectl::{Namespace, wait_for};

#[test]
fn when_the_leader_is_killed_those_on_another_pod_notice_nothing_but_time() {
    let namespace = Namespace::new("crash");
    let Pair {
        queue,
        leader,
        other,
        crowd,
    } = Pair::with_clients_on_both(&namespace);
    let fault = crowd.now();
    Process::of(&leader).kill();
    wait_for(
        "a new leader in the status",
        Duration::from_secs(60),
        || (queue.leader_in_the_status() == other.name).then_some(()),
    );
    let waits = crowd.served(Duration::from_secs(60));

    let figures = Figures::of(&waits, crowd.now());
    let resumed = resumed(&waits, fault);
    let more = format!(", granted {:.1} s after the kill", resumed.as_secs_f64());
    print("2 kill -9 of the leader", &figures, &more);
    none_too_early(&figures, &waits);
    no_connection_closed(waits.iter().filter(|wait| wait.place == "other"));
    assert!(resumed <= back_within(), "{}", tell(&waits));
}
