//! A pod is killed, suspended, or cut off from the API server.

use std::thread;
use std::time::Duration;

use super::clients::Grants;
use super::node::Partition;
use super::pair::Pair;
use super::process::Process;
use super::{FAULT, back_within};
use crate::kubectl::Namespace;
use crate::schedule::Phase;
use crate::wait::{wait_for, wait_until};

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
    wait_until("the new leader in the status", PATIENCE, || {
        queue.leader_in_status() == next.name
    });
    let outcome = clients.finish(PATIENCE);
    outcome.only_a_delay("kill -9 of the leader", fault);
}

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
    let outcome = clients.finish(PATIENCE);
    outcome.only_a_delay("leader frozen for 40 s", fault);
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
    let outcome = clients.finish(PATIENCE);
    outcome.print_none_too_early("forwarder frozen for 40 s", "");
    outcome.no_connection_closed(Some("leader"));
}

#[test]
fn a_partitioned_leader_does_not_grant_beside_its_successor() {
    let namespace = Namespace::in_phase("partition", Phase::Long);
    let Pair {
        queue,
        leader,
        other,
        clients,
    } = Pair::with_clients_on_both(&namespace);
    let fault = clients.now();
    let partition = Partition::from_api_server(Process::of(&leader));
    thread::sleep(FAULT);
    let successor = queue.leader();
    let acquired = clients.time_of(queue.acquired()).saturating_sub(fault);
    drop(partition);
    let outcome = clients.finish(PATIENCE);
    let more = format!(", a new leader after {:.1} s", acquired.as_secs_f64());
    outcome.print_none_too_early("leader without API server for 40 s", &more);
    outcome.no_connection_closed(Some("other"));
    assert_eq!(successor, other, "{}", outcome.list());
    assert!(
        outcome.figures.silence <= back_within(),
        "{}",
        outcome.list()
    );
}
