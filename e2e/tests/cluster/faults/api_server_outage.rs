//! The API server stops for a minute.

use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::node::Outage;
use super::pair::Pair;
use super::{LEASE, back_within};
use crate::kubectl::Namespace;
use crate::schedule::Phase;
use crate::wait::wait_until;

#[test]
fn without_the_api_server_the_queue_holds_reports_it_and_recovers() {
    let namespace = Namespace::in_phase("api-server", Phase::Long);
    let Pair { queue, clients, .. } = Pair::with_clients_on_both(&namespace);
    namespace.move_to(Phase::Outage);
    clients.wait_for_grants(4);
    let leader = queue.leader();
    let outage = Outage::begin();
    let fault = clients.now();
    thread::sleep(Duration::from_secs(60));
    let state = queue.admin(&leader, "/state");
    let metrics = queue.admin(&leader, "/metrics");
    let returns = clients.now();
    outage.end();
    let back = clients.now();
    clients.wait_for_grants(4);
    let outcome = clients.finish(Duration::from_secs(60));

    let granted = outcome.grants();
    let resumed = granted.iter().find(|at| **at > returns).unwrap();
    let more = format!(
        ", granted {:.1} s after its start, which took {:.1} s",
        (*resumed - returns).as_secs_f64(),
        (back - returns).as_secs_f64(),
    );
    outcome.print_none_too_early("API server down for 60 s", &more);
    outcome.no_connection_closed(None);
    // The Lease could not be renewed and expired.
    let expired = fault + LEASE..returns;
    let unfounded = granted.iter().find(|at| expired.contains(*at));
    assert_eq!(unfounded, None, "{}", outcome.list());
    assert!(*resumed <= back + back_within(), "{}", outcome.list());
    assert!(state.contains(r#""role":"expired""#), "{state}");
    let metric = r#"gateway_queue_role{role="expired"} 1"#;
    assert!(metrics.lines().any(|line| line == metric), "{metrics}");
    // Either pod may be the leader now. The former leader has a role and reports no error.
    wait_until("the former leader to recover", LEASE * 2, || {
        let state: Value = serde_json::from_str(&queue.admin(&leader, "/state")).unwrap();
        let has_role = state["role"] == "leader" || state["role"] == "follower";
        has_role && state["last_error"].is_null()
    });
    // The leader is read from the Lease, because the pods are not ready for a while.
    wait_until("the leader in the status", LEASE * 2, || {
        let holder = queue.holder();
        let leader = holder.rsplit_once('_');
        leader.is_some_and(|(leader, _)| leader == queue.leader_in_status())
    });
    queue.ready();
}
