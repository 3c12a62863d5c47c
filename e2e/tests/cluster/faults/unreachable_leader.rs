//! The leader renews its Lease, but another pod cannot reach its peer port, as behind a
//! NetworkPolicy or a service mesh.

use std::time::Duration;

use gateway_queue_e2e::waits::{End, Wait};

use super::clients::Grants;
use super::node::Partition;
use super::pair::Pair;
use crate::kubectl::Namespace;
use crate::schedule::{ChangesPods, Phase};
use crate::wait::{wait_for, wait_until};

/// 30 s until the pod is unready, 15 s until it disconnects its clients, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

const CONDITION: &str = "LeaderReachable";

/// On a busy node the kubelet notices the unready pod only after it has disconnected its clients,
/// which may then reconnect to it.
#[test]
fn clients_of_a_pod_that_cannot_reach_the_leader_reconnect_to_the_leader() {
    let namespace = Namespace::in_phase("unreachable-leader", Phase::Timing);
    let pods = ChangesPods::wait();
    let Pair {
        queue,
        leader,
        other,
        clients,
    } = Pair::start(&namespace);
    drop(pods);
    let wait_for_condition = |status: &'static str| {
        let what = format!("the condition {CONDITION} to be {status}");
        wait_for(&what, PATIENCE, || {
            let (found, message) = queue.condition(CONDITION);
            (found == status).then_some(message)
        })
    };
    wait_for_condition("True");

    let fault = clients.now();
    let partition = Partition::from_peers(leader.process());
    for shard in 0..4 {
        clients.start(shard, &other.target("other"), Grants::One);
    }
    assert_eq!(queue.wait_for_pods(1), std::slice::from_ref(&leader));
    let unready = clients.now() - fault;
    let message = wait_for_condition("False");
    assert!(message.contains(&other.name), "{message}");
    let address = format!("{}:9091", leader.ip);
    assert!(message.contains(&address), "{message}");
    wait_until("the event", PATIENCE, || {
        queue.events("LeaderUnreachable") > 0
    });
    let state = queue.admin(&other, "/state");
    assert!(state.contains("renews its Lease"), "{state}");

    // Its waiting clients are disconnected once the Service has no more endpoint for it. They
    // reconnect to the leader.
    clients.wait_for_grants(4);
    let target = queue.service();
    for shard in 4..8 {
        clients.start(shard, &target, Grants::One);
    }
    let outcome = clients.finish(PATIENCE);
    let unready = unready.as_secs_f64();
    let more = format!(", the other pod unready {unready:.1} s after the cut");
    outcome.print_none_too_early("peer port of the leader unreachable", &more);
    // No client receives anything other than a grant.
    let is_right = |wait: &Wait| match &wait.end {
        Some((_, End::Closed(_))) => wait.target == "other",
        Some((_, End::Granted)) => wait.target != "other",
        _ => false,
    };
    assert!(outcome.waits.iter().all(is_right), "{}", outcome.list());
    assert_eq!(queue.leader(), leader);
    assert_eq!(queue.events("LeaderUnreachable"), 1);

    drop(partition);
    queue.wait_for_pods(2);
    wait_for_condition("True");
    wait_until("the event", PATIENCE, || {
        queue.events("LeaderReachable") > 0
    });
    let annotations = &queue.lease()["metadata"]["annotations"];
    let key = format!("unreachable.gatewayqueue.dev/{}", other.name);
    assert!(annotations[&key].is_null(), "{annotations:#}");
    clients.start(0, &other.target("other"), Grants::One);
    clients.wait_for_grants(1);
    assert_eq!(queue.leader(), leader);
}
