//! Whether every pod reaches the leader. Only the pods can observe that; they report it on
//! the Lease.

use gateway_queue_core::lease_state::{Unreachable, unreachable};
use kube::ResourceExt as _;

use super::Inputs;
use super::condition_value::ConditionValue;
use crate::api::Reason;
use crate::apply::Outcome;
use crate::observe::leader::Leader;
use crate::observe::observed::Observed;

/// Whether every pod reaches the leader.
pub(super) fn leader_reachable(inputs: Inputs<'_>) -> ConditionValue {
    let leader = match (inputs.outcome, &inputs.observed.leader) {
        (Outcome::TokenShared(_), _) => {
            let message = "This queue has no pods. See the condition Ready.";
            return ConditionValue::unknown(Reason::TokenShared, message);
        }
        (_, Leader::Lost { .. } | Leader::None) => {
            let message = "The queue has no leader. See the condition Ready.";
            return ConditionValue::unknown(Reason::NoLeader, message);
        }
        (_, Leader::Pod { name }) => name,
    };
    let reports = reports(inputs.observed);
    let Some((_, Unreachable { address, .. })) = reports.first() else {
        let message = format!("Every pod reaches the leader {leader}.");
        return ConditionValue::yes(Reason::Reachable, message);
    };
    let pods: Vec<&str> = reports.iter().map(|(pod, _)| pod.as_str()).collect();
    let (pods, are) = match &pods[..] {
        [pod] => (format!("Pod {pod}"), "is"),
        pods => (format!("Pods {}", pods.join(", ")), "are"),
    };
    let message = format!(
        "{pods} cannot reach the leader {leader} at {address}, although it renews its Lease, and \
         {are} not ready. Allow the queue's pods to reach each other on port {}: check \
         `kubectl -n {} get networkpolicy` and the settings of the service mesh.",
        address.port(),
        inputs.owner.namespace
    );
    ConditionValue::no(Reason::LeaderUnreachable, message)
}

/// The reports about the current leader, of pods that exist.
fn reports(observed: &Observed) -> Vec<(String, Unreachable)> {
    let Some(lease) = &observed.lease else {
        return Vec::new();
    };
    let exists = |name: &str| {
        let mut pods = observed.pods.iter();
        pods.any(|pod| pod.name_any() == name && pod.metadata.deletion_timestamp.is_none())
    };
    unreachable(
        &lease.metadata.annotations(),
        lease.holder().unwrap_or_default(),
    )
    .into_iter()
    .filter(|(pod, _)| exists(pod))
    .map(|(pod, report)| (pod.to_owned(), report))
    .collect()
}
