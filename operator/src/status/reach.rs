//! Whether every pod reaches the leader. Only the pods themselves see that; they report it on
//! the Lease.

use gateway_queue_core::lease_state::{Unreachable, unreachable};
use kube::ResourceExt as _;

use super::{Evidence, Outcome, State, Verdict};
use crate::desired::Owner;
use crate::observe::leader::Leader;

/// The condition.
pub(super) fn leader_reachable(owner: &Owner, evidence: Evidence<'_>) -> Verdict {
    let leader = match (evidence.outcome, evidence.leader) {
        (Outcome::TokenShared(_), _) => {
            let message = "This queue stands down: see the condition Ready";
            return Verdict::of(State::Unknown, "TokenShared", message);
        }
        (_, Leader::Lost { .. } | Leader::Nobody) => {
            let message = "No pod leads: see the condition Ready";
            return Verdict::of(State::Unknown, "NoLeader", message);
        }
        (_, Leader::Pod { name, .. }) => name,
    };
    let reports = reports(evidence);
    let Some((_, Unreachable { address, .. })) = reports.first() else {
        return Verdict::holds(
            "Reachable",
            format!("Every pod reaches the leader {leader}"),
        );
    };
    let pods: Vec<&str> = reports.iter().map(|(pod, _)| pod.as_str()).collect();
    let (pods, are) = match &pods[..] {
        [pod] => (format!("Pod {pod}"), "It is"),
        pods => (format!("Pods {}", pods.join(", ")), "They are"),
    };
    let (namespace, port) = (&owner.namespace, address.port());
    Verdict::not(
        "LeaderUnreachable",
        format!(
            "{pods} cannot reach the leader {leader} at {address}, which renews its Lease. {are} unready, so that \
             clients go to the leader. Allow the queue's pods to reach each other on port {port}: see \
             `kubectl -n {namespace} get networkpolicy` and the settings of the service mesh"
        ),
    )
}

/// The reports about the present leader, of pods that are there.
fn reports(evidence: Evidence<'_>) -> Vec<(String, Unreachable)> {
    let Some(lease) = evidence.lease else {
        return Vec::new();
    };
    let holder = lease
        .spec
        .as_ref()
        .and_then(|spec| spec.holder_identity.as_deref());
    let stays = |name: &str| {
        evidence
            .pods
            .iter()
            .any(|pod| pod.name_any() == name && pod.metadata.deletion_timestamp.is_none())
    };
    unreachable(lease.annotations(), holder.unwrap_or_default())
        .into_iter()
        .filter(|(pod, _)| stays(pod))
        .map(|(pod, report)| (pod.to_owned(), report))
        .collect()
}
