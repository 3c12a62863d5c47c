//! The queue's pod is replaced by a new version.

use std::collections::BTreeSet;
use std::time::Duration;

use gateway_queue_e2e::waits::{End, Figures, grants, list};
use serde_json::json;

use super::clients::{Clients, Grants};
use super::queue::Queue;
use super::{NO_SLOT_LOST, no_connection_closed, none_too_early, print};
use crate::kubectl::Namespace;
use crate::schedule::Phase;

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_rollout_with_forty_waiting_clients_closes_no_connection_and_loses_no_slot() {
    let namespace = Namespace::in_phase("rollout", Phase::Timing);
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
    queue.wait_for_another_leader(&before);
    let acquired = clients.time_of(queue.acquired());
    let waits = clients.finish(PATIENCE);

    let figures = Figures::of(&waits, clients.now());
    let more = format!(", a new leader after {:.1} s", acquired.as_secs_f64());
    print("rollout", &figures, &more);
    no_connection_closed(&waits);
    none_too_early(&figures, &waits);
    assert!(figures.gap <= NO_SLOT_LOST, "{}", list(&waits));
    let granted = waits
        .iter()
        .filter(|wait| matches!(wait.end, Some((_, End::Granted))));
    let granted: BTreeSet<u32> = granted.map(|wait| wait.shard).collect();
    assert_eq!(granted.len(), 40, "{}", list(&waits));
    let by_the_new_leader = grants(&waits).iter().any(|at| *at > acquired);
    assert!(by_the_new_leader, "{}", list(&waits));
}
