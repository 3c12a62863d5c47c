//! The API server stops for a minute.

use std::thread;
use std::time::Duration;

use gateway_queue_e2e::waits::{Figures, grants, list};
use serde_json::Value;

use super::node::Outage;
use super::pair::Pair;
use super::{LEASE, back_within, no_connection_closed, none_too_early, print};
use crate::kubectl::Namespace;
use crate::schedule::Phase;
use crate::wait::wait_for;

#[test]
fn without_the_api_server_the_queue_holds_reports_it_and_recovers() {
    let namespace = Namespace::in_phase("api-server", Phase::Long);
    let Pair { queue, clients, .. } = Pair::with_clients_on_both(&namespace);
    namespace.move_to(Phase::Outage);
    clients.wait_for_grants(4);
    let leader = queue.leader();
    let outage = Outage::begin(&namespace);
    let fault = clients.now();
    thread::sleep(Duration::from_secs(60));
    let state = queue.admin(&leader, "/state");
    let metrics = queue.admin(&leader, "/metrics");
    let returns = clients.now();
    outage.end(&namespace);
    let back = clients.now();
    clients.wait_for_grants(4);
    let waits = clients.finish(Duration::from_secs(60));

    let figures = Figures::of(&waits, clients.now());
    let granted = grants(&waits);
    let resumed = granted.iter().find(|at| **at > returns).unwrap();
    let more = format!(
        ", granted {:.1} s after its start, which took {:.1} s",
        (*resumed - returns).as_secs_f64(),
        (back - returns).as_secs_f64(),
    );
    print("API server down for 60 s", &figures, &more);
    none_too_early(&figures, &waits);
    no_connection_closed(&waits);
    // The Lease could not be renewed and expired.
    let expired = fault + LEASE..returns;
    let unfounded = granted.iter().find(|at| expired.contains(*at));
    assert_eq!(unfounded, None, "{}", list(&waits));
    assert!(*resumed <= back + back_within(), "{}", list(&waits));
    assert!(state.contains(r#""role":"expired""#), "{state}");
    let metric = r#"gateway_queue_role{role="expired"} 1"#;
    assert!(metrics.lines().any(|line| line == metric), "{metrics}");
    // Either pod may be the leader now. The former leader has a role and reports no error.
    wait_for("the former leader to recover", LEASE * 2, || {
        let state: Value = serde_json::from_str(&queue.admin(&leader, "/state")).unwrap();
        let recovered = state["role"] == "leader" || state["role"] == "follower";
        (recovered && state["last_error"].is_null()).then_some(())
    });
    // The leader is read from the Lease, because the pods are not ready for a while.
    wait_for("the leader in the status", LEASE * 2, || {
        let holder = queue.holder();
        let (leader, _) = holder.rsplit_once('_')?;
        (queue.leader_in_status() == leader).then_some(())
    });
    queue.ready();
}
