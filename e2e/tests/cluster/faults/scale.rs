//! The queue is scaled up and down.

use std::time::Duration;

use gateway_queue_e2e::waits::{Figures, grants, list};

use super::clients::{Clients, Grants};
use super::queue::Queue;
use super::{NO_SLOT_LOST, no_connection_closed, none_too_early, print};
use crate::kubectl::Namespace;
use crate::schedule::Phase;

#[test]
fn scaling_from_one_to_three_to_one_closes_no_connection_and_loses_no_slot() {
    let namespace = Namespace::in_phase("scale", Phase::Timing);
    let queue = Queue::without_token(&namespace, 1, 4);
    let before = queue.leader();
    let service = queue.service();
    let clients = Clients::new(4, service.clone());
    for shard in 0..16 {
        clients.start(shard, &service, Grants::Many);
    }
    clients.wait_for_grants(4);
    queue.scale(3);
    queue.wait_for_pods(3);
    // By then every client has sent another request, and some wait on each pod.
    clients.wait_for_grants(16);
    // Kubernetes would delete the youngest pods; with the annotation it deletes the leader.
    let cheap = "controller.kubernetes.io/pod-deletion-cost=-100";
    namespace
        .kubectl(&["annotate", "pod", &before.name, cheap])
        .unwrap();
    queue.scale(1);
    queue.wait_for_pods(1);
    queue.wait_for_another_leader(&before);
    let acquired = clients.time_of(queue.acquired());
    let waits = clients.finish(Duration::from_secs(60));

    let figures = Figures::of(&waits, clients.now());
    let more = format!(", a new leader after {:.1} s", acquired.as_secs_f64());
    print("scaled 1, 3, 1", &figures, &more);
    no_connection_closed(&waits);
    none_too_early(&figures, &waits);
    assert!(figures.gap <= NO_SLOT_LOST, "{}", list(&waits));
    let later = grants(&waits)
        .into_iter()
        .filter(|at| *at > acquired)
        .count();
    assert!(later >= 4, "no client waited while the leader changed");
}
