//! The queue is replaced by a new version of itself.

use std::collections::BTreeSet;
use std::time::Duration;

use gateway_queue_e2e::waits::{End, Figures, Wait, grants, tell};
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
    // One client of each bucket asks again after each grant: there are waiters in every
    // bucket however long the rollout takes.
    for shard in 0..40 {
        let turns = if shard < 8 { Turns::Many } else { Turns::One };
        crowd.ask(shard, &service, turns);
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
    let granted = |wait: &&Wait| matches!(wait.end, Some((_, End::Granted)));
    let served = waits.iter().filter(granted).map(|wait| wait.shard);
    let served: BTreeSet<u32> = served.collect();
    assert_eq!(served.len(), 40, "{}", tell(&waits));
    assert!(
        grants(&waits).iter().any(|at| *at > taken),
        "{}",
        tell(&waits)
    );
}
