//! Another pod becomes the leader without a fault: in a rollout, and when the queue is scaled.

use std::collections::BTreeSet;
use std::time::Duration;

use gateway_queue_e2e::waits::End;
use serde_json::json;

use super::NO_SLOT_LOST;
use super::clients::{Clients, Grants};
use super::queue::{Pod, Queue};
use crate::kubectl::Namespace;
use crate::schedule::{ChangesPods, Phase};

/// Waits for a leader other than `before`, and asserts that no client lost its connection or a
/// slot. Returns what the clients saw, and when the new leader began.
fn no_slot_lost(
    scenario: &str,
    queue: &Queue<'_>,
    clients: &Clients,
    before: &Pod,
    pods: ChangesPods,
) -> (super::Outcome, Duration) {
    queue.wait_for_another_leader(before);
    drop(pods);
    let acquired = clients.time_of(queue.acquired());
    let outcome = clients.finish(Duration::from_secs(60));
    let more = format!(", a new leader after {:.1} s", acquired.as_secs_f64());
    outcome.print_none_too_early(scenario, &more);
    outcome.no_connection_closed(None);
    assert!(
        outcome.figures.longest_gap <= NO_SLOT_LOST,
        "{}",
        outcome.list()
    );
    (outcome, acquired)
}

#[test]
fn a_rollout_with_forty_waiting_clients_closes_no_connection_and_loses_no_slot() {
    let namespace = Namespace::in_phase("rollout", Phase::Timing);
    let pods = ChangesPods::wait();
    let queue = Queue::without_token(&namespace, 1, 8);
    let before = queue.leader();
    let service = queue.service();
    let clients = Clients::new(8, service.clone());
    // One client of each bucket repeats its request, so that clients wait in every bucket
    // however long the rollout takes.
    for shard in 0..40 {
        let grants = if shard < 8 { Grants::Many } else { Grants::One };
        clients.start(shard, &service, grants);
    }
    queue.patch(&json!({"logLevel": "debug"}));
    let (outcome, acquired) = no_slot_lost("rollout", &queue, &clients, &before, pods);
    let granted = outcome.waits.iter();
    let granted = granted.filter(|wait| matches!(wait.end, Some((_, End::Granted))));
    let granted: BTreeSet<u32> = granted.map(|wait| wait.shard).collect();
    let all = (0..40).all(|shard| granted.contains(&shard));
    assert!(all, "{}", outcome.list());
    let by_the_new_leader = outcome.grants().iter().any(|at| *at > acquired);
    assert!(by_the_new_leader, "{}", outcome.list());
}

#[test]
fn scaling_from_one_to_three_to_one_closes_no_connection_and_loses_no_slot() {
    let namespace = Namespace::in_phase("scale", Phase::Timing);
    let pods = ChangesPods::wait();
    let queue = Queue::without_token(&namespace, 1, 4);
    let before = queue.leader();
    let service = queue.service();
    let clients = Clients::new(4, service.clone());
    for shard in 0..16 {
        clients.start(shard, &service, Grants::Many);
    }
    clients.wait_for_grants(4);
    queue.scale(3);
    drop(pods);
    // By then every client has sent another request, and some wait on each pod.
    clients.wait_for_grants(16);
    let pods = ChangesPods::wait();
    // Kubernetes would delete the youngest pods; with the annotation it deletes the leader.
    let cheap = "controller.kubernetes.io/pod-deletion-cost=-100";
    let annotate = format!("annotate pod {} {cheap}", before.name);
    namespace.kubectl(&annotate).unwrap();
    queue.scale(1);
    let (outcome, acquired) = no_slot_lost("scaled 1, 3, 1", &queue, &clients, &before, pods);
    let later = outcome.grants().into_iter().filter(|at| *at > acquired);
    assert!(
        later.count() >= 4,
        "no client waited while the leader changed"
    );
}
