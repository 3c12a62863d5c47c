//! The leader renews its Lease, but another pod cannot reach its peer port, as behind a
//! NetworkPolicy or a service mesh.

use std::time::Duration;

use gateway_queue_e2e::waits::{End, Figures, list};

use super::clients::Grants;
use super::node::Partition;
use super::pair::Pair;
use super::process::Process;
use super::{none_too_early, print};
use crate::kubectl::Namespace;
use crate::schedule::Phase;
use crate::wait::wait_for;

/// 30 s until the pod is unready, 15 s until it disconnects its clients, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

const CONDITION: &str = "LeaderReachable";

/// On a busy node the kubelet notices the unready pod only after it has disconnected its clients,
/// which may then reconnect to it.
#[test]
fn clients_of_a_pod_that_cannot_reach_the_leader_reconnect_to_the_leader() {
    let namespace = Namespace::in_phase("unreachable-leader", Phase::Timing);
    let Pair {
        queue,
        leader,
        other,
        clients,
    } = Pair::start(&namespace);
    let wait_for_condition = |status: &'static str| {
        let what = format!("the condition {CONDITION} to be {status}");
        wait_for(&what, PATIENCE, || {
            let (found, message) = queue.condition(CONDITION);
            (found == status).then_some(message)
        })
    };
    wait_for_condition("True");

    let fault = clients.now();
    let partition = Partition::from_peers(Process::of(&leader));
    for shard in 0..4 {
        clients.start(shard, &other.target("other"), Grants::One);
    }
    assert_eq!(queue.wait_for_pods(1), std::slice::from_ref(&leader));
    let unready = clients.now() - fault;
    let message = wait_for_condition("False");
    assert!(message.contains(&other.name), "{message}");
    assert!(
        message.contains(&format!("{}:9091", leader.ip)),
        "{message}"
    );
    wait_for("the event", PATIENCE, || {
        (queue.events("LeaderUnreachable") > 0).then_some(())
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
    let waits = clients.finish(PATIENCE);
    let figures = Figures::of(&waits, clients.now());
    let more = format!(
        ", the other pod unready {:.1} s after the cut",
        unready.as_secs_f64()
    );
    print("peer port of the leader unreachable", &figures, &more);
    none_too_early(&figures, &waits);
    for wait in &waits {
        let end = wait.end.as_ref().map(|(_, end)| end);
        let disconnected = matches!(end, Some(End::Closed(_)));
        // No client receives anything other than a grant.
        assert!(
            disconnected || matches!(end, Some(End::Granted)),
            "{}",
            list(&waits)
        );
        assert_eq!(disconnected, wait.target == "other", "{}", list(&waits));
    }
    assert_eq!(queue.leader(), leader);
    assert_eq!(queue.events("LeaderUnreachable"), 1);

    drop(partition);
    queue.wait_for_pods(2);
    wait_for_condition("True");
    wait_for("the event", PATIENCE, || {
        (queue.events("LeaderReachable") > 0).then_some(())
    });
    let annotations = queue.annotations();
    let key = format!("unreachable.gatewayqueue.dev/{}", other.name);
    assert!(annotations[&key].is_null(), "{annotations:#}");
    let target = other.target("other");
    clients.start(0, &target, Grants::One);
    clients.wait_for_grants(1);
    assert_eq!(queue.leader(), leader);
}
