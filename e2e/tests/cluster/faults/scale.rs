//! More pods, and fewer again.

use std::time::Duration;

use gateway_queue_e2e::waits::{Figures, grants, tell};

use super::clients::{Crowd, Turns};
use super::queue::Queue;
use super::{NO_SLOT_LOST, no_connection_closed, none_too_early, print};
use crate::kubectl::{Namespace, wait_for};

#[test]
fn scaling_from_one_to_three_to_one_under_load_loses_no_slot_and_no_connection() {
    let namespace = Namespace::alone("scale");
    let queue = Queue::plain(&namespace, 1, 4);
    let before = queue.leader();
    let service = queue.service();
    let crowd = Crowd::new(4, service.clone());
    for shard in 0..16 {
        crowd.ask(shard, &service, Turns::Many);
    }
    crowd.granted(4);
    queue.scale(3);
    queue.wait_for_pods(3);
    // Then everybody has asked again: some of them on each pod.
    crowd.granted(16);
    // Of three pods the youngest would go; this way it is the leader.
    let cheap = "controller.kubernetes.io/pod-deletion-cost=-100";
    namespace
        .kubectl(&["annotate", "pod", &before.name, cheap])
        .unwrap();
    queue.scale(1);
    queue.wait_for_pods(1);
    wait_for("a new leader", Duration::from_secs(30), || {
        queue.leader_now().filter(|leader| *leader != before)
    });
    let taken = crowd.moment(queue.taken());
    let waits = crowd.served(Duration::from_secs(60));

    let figures = Figures::of(&waits, crowd.now());
    let more = format!(", a new leader after {:.1} s", taken.as_secs_f64());
    print("6 scaled 1, 3, 1", &figures, &more);
    no_connection_closed(&waits);
    none_too_early(&figures, &waits);
    assert!(figures.gap <= NO_SLOT_LOST, "{}", tell(&waits));
    let later = grants(&waits).into_iter().filter(|at| *at > taken).count();
    assert!(later >= 4, "nobody waited while the leaders changed");
}
