//! A pod is killed, suspended, or cut off from the API server.

use std::thread;
use std::time::Duration;

use super::clients::Grants;
use super::node::Partition;
use super::pair::Pair;
use super::{FAULT, back_within};
use crate::kubectl::Namespace;
use crate::schedule::Phase;
use crate::wait::{wait_for, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn after_a_crash_of_the_leader_clients_of_another_pod_see_only_a_delay() {
    let namespace = Namespace::new("crash");
    let pair = Pair::with_clients_on_both(&namespace);
    let before = pair.queue.holder();
    let fault = pair.clients.now();
    pair.leader.process().kill();
    // The new holder is the other pod, or the container that replaces the killed one.
    let next = wait_for("a new holder of the Lease", PATIENCE, || {
        (pair.queue.holder() != before).then(|| pair.queue.leader_now())?
    });
    wait_until("the new leader in the status", PATIENCE, || {
        pair.queue.leader_in_status() == next.name
    });
    let outcome = pair.clients.finish(PATIENCE);
    outcome.only_a_delay("kill -9 of the leader", fault);
}

#[test]
fn a_frozen_leader_does_not_grant_after_it_resumes() {
    let namespace = Namespace::in_phase("frozen-leader", Phase::Long);
    let pair = Pair::with_clients_on_both(&namespace);
    let fault = pair.clients.now();
    let frozen = pair.leader.process().freeze();
    thread::sleep(FAULT);
    drop(frozen);
    let outcome = pair.clients.finish(PATIENCE);
    outcome.only_a_delay("leader frozen for 40 s", fault);
}

#[test]
fn a_frozen_forwarder_delivers_no_old_grant_after_it_resumes() {
    let namespace = Namespace::in_phase("frozen-forwarder", Phase::Long);
    let pair = Pair::start(&namespace);
    // Three clients of each bucket, which are all granted while their pod is frozen.
    let (leader, other) = (pair.leader.target("leader"), pair.other.target("other"));
    for shard in 0..16 {
        let target = if shard < 12 { &other } else { &leader };
        pair.clients.start(shard, target, Grants::Many);
    }
    pair.clients.wait_for_grants(4);
    let frozen = pair.other.process().freeze();
    thread::sleep(FAULT);
    drop(frozen);
    let outcome = pair.clients.finish(PATIENCE);
    outcome.print_none_too_early("forwarder frozen for 40 s", "");
    outcome.no_connection_closed(Some("leader"));
}

#[test]
fn a_partitioned_leader_does_not_grant_beside_its_successor() {
    let namespace = Namespace::in_phase("partition", Phase::Long);
    let pair = Pair::with_clients_on_both(&namespace);
    let fault = pair.clients.now();
    let partition = Partition::from_api_server(pair.leader.process());
    thread::sleep(FAULT);
    let successor = pair.queue.leader();
    let acquired = pair.clients.time_of(pair.queue.acquired());
    drop(partition);
    let outcome = pair.clients.finish(PATIENCE);
    let after = acquired.saturating_sub(fault).as_secs_f64();
    let more = format!(", a new leader after {after:.1} s");
    outcome.print_none_too_early("leader without API server for 40 s", &more);
    outcome.no_connection_closed(Some("other"));
    assert_eq!(successor, pair.other, "{}", outcome.list());
    let silence = outcome.figures.longest_silence;
    assert!(silence <= back_within(), "{}", outcome.list());
}
