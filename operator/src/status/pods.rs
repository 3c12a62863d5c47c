//! What is said of a queue whose pods cannot grant: because they are not there,
//! not ready, or none of them leads.

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;

use super::{NO_LEADER, Verdict, sentence};
use crate::desired::{APPLIED, Owner};
use crate::leader::Leader;

/// Whether all pods are of the newest Deployment and one of them is ready, else
/// why not. One is enough to grant; the others come when they can.
pub(super) fn rollout(
    owner: &Owner,
    deployment: Option<&Deployment>,
    mark: Option<&str>,
) -> Result<(), Verdict> {
    let under_way = |message: &str| Err(Verdict::not("RolloutUnderWay", message));
    let Some(deployment) = deployment else {
        return under_way("The Deployment is being made");
    };
    let status = deployment.status.clone().unwrap_or_default();
    let carried = deployment.annotations().get(APPLIED);
    if mark.is_some() && mark != carried.map(String::as_str) {
        return under_way("The new Deployment has not been seen yet");
    }
    if status.observed_generation < deployment.metadata.generation {
        return under_way("The new Deployment has not been taken up yet");
    }
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let told = |type_: &str, status: &str| {
        conditions
            .iter()
            .find(|c| c.type_ == type_ && c.status == status)
            .and_then(|c| c.message.as_deref())
    };
    // Such as a quota, or a policy that does not admit the pod.
    if let Some(message) = told("ReplicaFailure", "True") {
        return Err(Verdict::not("NotReady", sentence(message)));
    }
    let wanted = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    let updated = status.updated_replicas.unwrap_or(0);
    let all = status.replicas.unwrap_or(0);
    let available = status.available_replicas.unwrap_or(0);
    if updated == wanted && all == updated && available > 0 {
        return Ok(());
    }
    let look = look("describe pod", owner);
    if let Some(message) = told("Progressing", "False") {
        return Err(Verdict::not(
            "NotReady",
            format!("The pod does not become ready: {message}. See `{look}`"),
        ));
    }
    let message = match available {
        0 => format!("No pod is ready yet. If it stays so, see `{look}`"),
        _ => format!(
            "{updated} of {wanted} pods are of the newest spec, and {} older. Shards are granted \
             their turns meanwhile, if a pod leads (see status.leader). If it stays so, see \
             `{look}`",
            all.saturating_sub(updated)
        ),
    };
    Err(Verdict::not("RolloutUnderWay", message))
}

/// What is said while nobody leads.
pub(super) fn leaderless(owner: &Owner, leader: &Leader) -> Option<Verdict> {
    let Owner { name, .. } = owner;
    let look = look("logs --prefix", owner);
    let message = match leader {
        Leader::Pod { .. } => return None,
        Leader::Lost { name: pod } => format!(
            "The leader {pod} has not renewed the Lease {name} in time, so no shard is granted its \
             turn. Another pod takes over as soon as there is one that reaches the API server. If \
             it stays so, see `{look}`"
        ),
        Leader::Nobody => format!(
            "No pod has taken the Lease {name} yet, so no shard is granted its turn. A Lease that \
             does not say that its leader has stopped is left alone for 30s. If it stays free for \
             longer, see `{look}`"
        ),
    };
    Some(Verdict::not(NO_LEADER, message))
}

/// What is said of a queue that shall have no pods.
pub(super) fn scaled_to_zero(owner: &Owner) -> Verdict {
    let Owner {
        name, namespace, ..
    } = owner;
    Verdict::not(
        "ScaledToZero",
        format!(
            "spec.replicas is 0, so no shard is granted its turn. Start the queue again with \
             `kubectl -n {namespace} scale gwq {name} --replicas=1`"
        ),
    )
}

fn look(how: &str, owner: &Owner) -> String {
    format!(
        "kubectl -n {} {how} -l app.kubernetes.io/instance={}",
        owner.namespace, owner.name
    )
}
