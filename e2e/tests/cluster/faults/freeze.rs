//! A pod is stopped for a while, and goes on as if nothing had happened.

use std::time::Duration;

use gateway_queue_e2e::waits::{Figures, tell};

use super::clients::Turns;
use super::pair::Pair;
use super::process::Process;
use super::{FAULT, back_within, no_connection_closed, none_too_early, print, resumed};
use crate::kubectl::Namespace;

#[test]
fn a_leader_that_was_stopped_grants_nothing_on_what_it_believed_before() {
    let namespace = Namespace::new("frozen-leader");
    let Pair { leader, crowd, .. } = Pair::with_clients_on_both(&namespace);
    let fault = crowd.now();
    let frozen = Process::of(&leader).freeze();
    std::thread::sleep(FAULT);
    drop(frozen);
    let waits = crowd.served(Duration::from_secs(60));

    let figures = Figures::of(&waits, crowd.now());
    let resumed = resumed(&waits, fault);
    let more = format!(", granted {:.1} s after the stop", resumed.as_secs_f64());
    print("3 leader stopped for 40 s", &figures, &more);
    none_too_early(&figures, &waits);
    no_connection_closed(waits.iter().filter(|wait| wait.place == "other"));
    assert!(resumed <= back_within(), "{}", tell(&waits));
}

#[test]
fn a_forwarder_that_was_stopped_delivers_no_turn_that_lay_in_its_socket() {
    let namespace = Namespace::new("frozen-forwarder");
    let Pair {
        leader,
        other,
        crowd,
        ..
    } = Pair::start(&namespace);
    // Three of each bucket, whose turns all come while it is stopped.
    for shard in 0..12 {
        crowd.ask(shard, &other.place("other"), Turns::Many);
    }
    for shard in 12..16 {
        crowd.ask(shard, &leader.place("leader"), Turns::Many);
    }
    crowd.granted(4);
    let frozen = Process::of(&other).freeze();
    std::thread::sleep(FAULT);
    drop(frozen);
    let waits = crowd.served(Duration::from_secs(60));

    let figures = Figures::of(&waits, crowd.now());
    print("3 forwarder stopped for 40 s", &figures, "");
    none_too_early(&figures, &waits);
    no_connection_closed(waits.iter().filter(|wait| wait.place == "leader"));
}
