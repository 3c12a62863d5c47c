//! Two operators: one is the leader, the other is on standby.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::api::{Api, DEPLOYMENT, LEASE, POD, is_ready};
use crate::kubectl::{ELECTION, Namespace, OPERATOR, ScaledOperator, operator_kubectl, say};
use crate::schedule::Phase;
use crate::wait::{wait_for, wait_until};

const PATIENCE: Duration = Duration::from_secs(90);

/// A stopping operator releases its Lease. The other one checks it every 5 s.
const HANDOVER_WITHIN: Duration = Duration::from_secs(20);

/// The Lease of a killed operator expires after 15 s. The other one checks it every 5 s.
const EXPIRY_WITHIN: Duration = Duration::from_secs(40);

#[test]
fn an_operator_on_standby_takes_over_from_a_leader_that_stops_or_is_killed() {
    let namespace = Namespace::in_phase("failover", Phase::Takeover);
    let api = Api::new();
    let _two = ScaledOperator::to(2);
    let first = leader(&api);
    let other = wait_for("an operator on standby", PATIENCE, || {
        ready(&api).into_iter().find(|pod| *pod != first)
    });
    assert_eq!(
        (is_leader(&api, &first), is_leader(&api, &other)),
        (Some(true), Some(false))
    );

    let handover = takeover(&api, &namespace, &first, "ended", "");
    assert_ne!(leader(&api), first);
    let second = leader(&api);
    wait_for("another operator on standby", PATIENCE, || {
        let mut others = ready(&api).into_iter();
        others.find(|pod| *pod != second && *pod != first)
    });
    let by_force = "--grace-period=0 --force";
    let expiry = takeover(&api, &namespace, &second, "killed", by_force);
    say(&format!(
        "operators: takeover {:.1} s after one was stopped, {:.1} s after one was killed",
        handover.as_secs_f64(),
        expiry.as_secs_f64()
    ));
    assert!(handover < HANDOVER_WITHIN, "{handover:?}");
    assert!(expiry < EXPIRY_WITHIN, "{expiry:?}");
}

/// Deletes an operator's pod, and creates a GatewayQueue. Returns the time until it has its
/// children.
fn takeover(api: &Api, namespace: &Namespace, pod: &str, queue: &str, how: &str) -> Duration {
    let started = Instant::now();
    operator_kubectl(&format!("delete pod {pod} --wait=false {how}")).unwrap();
    // Otherwise the stopping operator might still create the children.
    wait_until("another operator to become the leader", PATIENCE, || {
        holder(api) != pod
    });
    let spec = json!({"replicas": 0});
    api.apply_queue(namespace.name(), queue, &spec).unwrap();
    wait_for("the children of the new GatewayQueue", PATIENCE, || {
        api.get(DEPLOYMENT, namespace.name(), &DEPLOYMENT.child_of(queue))
    });
    started.elapsed()
}

/// The pod that holds the Lease of the operators of all namespaces. The holder identity contains
/// its namespace, too.
fn holder(api: &Api) -> String {
    let lease = api.get(LEASE, ELECTION.0, ELECTION.1).unwrap();
    let holder = lease["spec"]["holderIdentity"].as_str();
    let pod = holder.and_then(|holder| holder.split_once('/'));
    pod.unwrap_or_default().1.to_owned()
}

/// The holder of the Lease, once its own metrics report that it is the leader.
fn leader(api: &Api) -> String {
    wait_for("a leader", PATIENCE, || {
        let holder = holder(api);
        (is_leader(api, &holder) == Some(true)).then_some(holder)
    })
}

/// Whether an operator's metrics report that it is the leader.
fn is_leader(api: &Api, pod: &str) -> Option<bool> {
    let pod = POD.path(OPERATOR.0, pod);
    let metrics = api.text(&format!("{pod}:8080/proxy/metrics")).ok()?;
    let mut lines = metrics.lines();
    let metric = "gateway_queue_operator_leader{scope=\"*\"} ";
    let leader = lines.find_map(|line| line.strip_prefix(metric))?;
    Some(leader == "1")
}

/// The operators' pods that are ready and not being deleted.
fn ready(api: &Api) -> Vec<String> {
    let mut pods = api.list(POD, OPERATOR.0);
    pods.retain(|pod| {
        is_ready(pod) && pod["metadata"]["labels"]["app.kubernetes.io/instance"] == OPERATOR.1
    });
    let names = pods.iter().map(|pod| pod["metadata"]["name"].as_str());
    names.flatten().map(str::to_owned).collect()
}
