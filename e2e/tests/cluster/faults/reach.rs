//! The leader renews its Lease, and another pod does not reach its peer port: as behind a
//! NetworkPolicy or a service mesh.

use std::time::Duration;

use gateway_queue_e2e::waits::{End, Figures, tell};

use super::clients::Turns;
use super::node::Cut;
use super::pair::Pair;
use super::process::Process;
use super::{none_too_early, print};
use crate::kubectl::{Namespace, wait_for};

/// 30 s until the pod is unready, 15 s until its clients are sent away, and the machine is busy.
const PATIENCE: Duration = Duration::from_secs(90);

const CONDITION: &str = "LeaderReachable";

#[test]
fn clients_of_a_pod_that_does_not_reach_the_leader_are_granted_by_the_leader() {
    let namespace = Namespace::new("reach");
    let Pair {
        queue,
        leader,
        other,
        crowd,
    } = Pair::start(&namespace);
    let is = |status: &'static str| {
        let what = format!("the condition {CONDITION} to be {status}");
        wait_for(&what, PATIENCE, || {
            let (is, message) = queue.condition(CONDITION);
            (is == status).then_some(message)
        })
    };
    is("True");

    let fault = crowd.now();
    let cut = Cut::off_from_peers(Process::of(&leader));
    for shard in 0..4 {
        crowd.ask(shard, &other.place("other"), Turns::One);
    }
    assert_eq!(queue.wait_for_pods(1), std::slice::from_ref(&leader));
    let unready = crowd.now() - fault;
    let message = is("False");
    assert!(message.contains(&other.name), "{message}");
    assert!(
        message.contains(&format!("{}:9091", leader.ip)),
        "{message}"
    );
    wait_for("the event", PATIENCE, || {
        (queue.events("LeaderUnreachable") > 0).then_some(())
    });
    let state = queue.page(&other, "/state");
    assert!(state.contains("renews its Lease"), "{state}");

    // Its waiting clients are disconnected once the Service has no more endpoint for it. They
    // reconnect to the leader.
    crowd.granted(4);
    let place = queue.service();
    for shard in 4..8 {
        crowd.ask(shard, &place, Turns::One);
    }
    let waits = crowd.served(PATIENCE);
    let figures = Figures::of(&waits, crowd.now());
    let more = format!(
        ", the other pod unready {:.1} s after the cut",
        unready.as_secs_f64()
    );
    print("peer port of the leader cut", &figures, &more);
    none_too_early(&figures, &waits);
    for wait in &waits {
        let end = wait.end.as_ref().map(|(_, end)| end);
        let sent_away = matches!(end, Some(End::Closed(_)));
        // No client receives anything other than a grant.
        assert!(
            sent_away || matches!(end, Some(End::Granted)),
            "{}",
            tell(&waits)
        );
        assert_eq!(sent_away, wait.place == "other", "{}", tell(&waits));
    }
    assert_eq!(queue.leader(), leader);
    assert_eq!(queue.events("LeaderUnreachable"), 1);

    drop(cut);
    queue.wait_for_pods(2);
    is("True");
    wait_for("the event", PATIENCE, || {
        (queue.events("LeaderReachable") > 0).then_some(())
    });
    let annotations = queue.annotations();
    let key = format!("unreachable.gatewayqueue.dev/{}", other.name);
    assert!(annotations[&key].is_null(), "{annotations:#}");
    let place = other.place("other");
    crowd.ask(0, &place, Turns::One);
    crowd.granted(1);
    assert_eq!(queue.leader(), leader);
}
