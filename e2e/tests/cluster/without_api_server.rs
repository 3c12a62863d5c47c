//! The API server goes away, and comes back.
//!
//! Tests begin in the order of their names. These have to be alone, and the
//! cluster needs a minute to find itself again: so their names are among the last.

mod under_load;

use std::time::Duration;

use gateway_queue_e2e::waits::{Figures, grants, tell};
use serde_json::Value;

use crate::faults::node::Down;
use crate::faults::pair::Pair;
use crate::faults::{LEASE, back_within, no_connection_closed, none_too_early, print};
use crate::kubectl::{Namespace, wait_for};

#[test]
fn without_the_api_server_the_queue_holds_says_so_and_goes_on_by_itself() {
    let namespace = Namespace::alone("api-server");
    let Pair {
        queue,
        leader,
        crowd,
        ..
    } = Pair::with_clients_on_both(&namespace);
    let down = Down::take(&namespace);
    let fault = crowd.now();
    std::thread::sleep(Duration::from_secs(60));
    let state = queue.page(&leader, "/state");
    let metrics = queue.page(&leader, "/metrics");
    let returns = crowd.now();
    down.back(&namespace);
    let back = crowd.now();
    crowd.granted(4);
    let waits = crowd.served(Duration::from_secs(60));

    let figures = Figures::of(&waits, crowd.now());
    let granted = grants(&waits);
    let resumed = granted.iter().find(|at| **at > returns).unwrap();
    let more = format!(
        ", granted {:.1} s after its start, which took {:.1} s",
        (*resumed - returns).as_secs_f64(),
        (back - returns).as_secs_f64(),
    );
    print("5 API server down for 60 s", &figures, &more);
    none_too_early(&figures, &waits);
    no_connection_closed(&waits);
    // Nobody has the right any more: the Lease cannot be renewed.
    let unfounded = granted
        .iter()
        .find(|at| (fault + LEASE..returns).contains(*at));
    assert_eq!(unfounded, None, "{}", tell(&waits));
    assert!(*resumed <= back + back_within(), "{}", tell(&waits));
    assert!(state.contains(r#""role":"expired""#), "{state}");
    let metric = r#"gateway_queue_role{role="expired"} 1"#;
    assert!(metrics.lines().any(|line| line == metric), "{metrics}");
    // Either pod may lead now. The former leader has a role again and reports no error.
    wait_for("the former leader to recover", LEASE * 2, || {
        let state: Value = serde_json::from_str(&queue.page(&leader, "/state")).unwrap();
        let recovered = state["role"] == "leads" || state["role"] == "follows";
        (recovered && state["last_error"].is_null()).then_some(())
    });
    // The Lease says who that is: after the outage the pods of the node are not ready for a
    // while, whoever leads.
    wait_for("the leader in the status", LEASE * 2, || {
        let holder = queue.holder();
        let (leader, _) = holder.rsplit_once('_')?;
        (queue.leader_in_the_status() == leader).then_some(())
    });
    queue.ready();
}
