//! The queue is replaced by a new version of itself.

use std::time::Duration;

use gateway_queue_e2e::waits::{Figures, grants, tell};
use serde_json::json;

use super::clients::{Crowd, Turns};
use super::queue::Queue;
use super::{NO_SLOT_LOST, no_connection_closed, none_too_early, print};
use crate::kubectl::{Namespace, wait_for};

#[test]
fn a_rollout_with_forty_waiting_closes_no_connection_and_loses_no_slot() {
    let namespace = Namespace::alone("rollout");
    let queue = Queue::plain(&namespace, 1, 8);
    let before = queue.leader();
    let service = queue.service();
    let crowd = Crowd::new(8, service.clone());
    for shard in 0..40 {
        crowd.ask(shard, &service, Turns::One);
    }
    queue.patch(&json!({"logLevel": "debug"}));
    let patience = Duration::from_secs(60);
    wait_for("a new leader", patience, || {
        queue.leader_now().filter(|leader| *leader != before)
    });
    let taken = crowd.moment(queue.taken());
    let waits = crowd.served(patience);

    let figures = Figures::of(&waits, crowd.now());
    let more = format!(", a new leader after {:.1} s", taken.as_secs_f64());
    print("1 rollout", &figures, &more);
    no_connection_closed(&waits);
    none_too_early(&figures, &waits);
    assert!(figures.gap <= NO_SLOT_LOST, "{}", tell(&waits));
    assert_eq!(figures.grants, 40);
    // Else nobody waited while the leaders changed.
    let last = grants(&waits)[39];
    assert!(taken < last, "the rollout took longer than the grants");
}
