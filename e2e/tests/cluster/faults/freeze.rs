//! A pod is suspended for a while, and then resumes.

use std::thread;
use std::time::Duration;

use gateway_queue_e2e::waits::{Figures, list};

use super::clients::Grants;
use super::pair::Pair;
use super::process::Process;
use super::{FAULT, back_within, no_connection_closed, none_too_early, print, resumed};
use crate::kubectl::Namespace;
use crate::schedule::Phase;

#[test]
fn a_frozen_leader_does_not_grant_after_it_resumes() {
    let namespace = Namespace::in_phase("frozen-leader", Phase::Long);
    let Pair {
        leader, clients, ..
    } = Pair::with_clients_on_both(&namespace);
    let fault = clients.now();
    let frozen = Process::of(&leader).freeze();
    thread::sleep(FAULT);
    drop(frozen);
    let waits = clients.finish(Duration::from_secs(60));

    let figures = Figures::of(&waits, clients.now());
    let resumed = resumed(&waits, fault);
    let more = format!(", granted {:.1} s after the stop", resumed.as_secs_f64());
    print("leader frozen for 40 s", &figures, &more);
    none_too_early(&figures, &waits);
    no_connection_closed(waits.iter().filter(|wait| wait.target == "other"));
    assert!(resumed <= back_within(), "{}", list(&waits));
}

#[test]
fn a_frozen_forwarder_delivers_no_old_grant_after_it_resumes() {
    let namespace = Namespace::in_phase("frozen-forwarder", Phase::Long);
    let Pair {
        leader,
        other,
        clients,
        ..
    } = Pair::start(&namespace);
    // Three clients of each bucket, which are all granted while their pod is frozen.
    for shard in 0..12 {
        clients.start(shard, &other.target("other"), Grants::Many);
    }
    for shard in 12..16 {
        clients.start(shard, &leader.target("leader"), Grants::Many);
    }
    clients.wait_for_grants(4);
    let frozen = Process::of(&other).freeze();
    thread::sleep(FAULT);
    drop(frozen);
    let waits = clients.finish(Duration::from_secs(60));

    let figures = Figures::of(&waits, clients.now());
    print("forwarder frozen for 40 s", &figures, "");
    none_too_early(&figures, &waits);
    no_connection_closed(waits.iter().filter(|wait| wait.target == "leader"));
}
