//! Why a queue has no pods, or none of the present spec, whatever its Deployment
//! says: something is in the way, or it shall have none.

use super::{Holder, Outcome, Verdict, sentence};
use crate::api::GatewayQueue;
use crate::desired::{Kind, Owner};

pub(super) fn blocked(queue: &GatewayQueue, owner: &Owner, outcome: &Outcome) -> Option<Verdict> {
    match outcome {
        Outcome::NameTaken(kinds) => Some(name_taken(owner, kinds)),
        Outcome::Refused { kind, message } => Some(Verdict::not(
            "ChildRefused",
            format!(
                "The API server refuses the {}{}: {message}",
                kind.as_str(),
                made_of(*kind)
            ),
        )),
        Outcome::Invalid(message) => Some(Verdict::not("InvalidSpec", sentence(message))),
        Outcome::TokenShared(holder) => Some(token_shared(queue, owner, holder)),
        Outcome::Failed(message) => Some(Verdict::not(
            "ApplyFailed",
            format!(
                "{}. It is tried again, later and later; see that the API server and its admission \
                 webhooks work",
                sentence(message)
            ),
        )),
        Outcome::Applied if queue.spec.replicas == 0 => Some(scaled_to_zero(owner)),
        Outcome::Applied => None,
    }
}

/// Where in the spec to look for what the API server does not like. Its message names
/// fields of the child.
fn made_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Deployment => " (made of spec.pod, spec.image and others)",
        Kind::Service => " (made of spec.service)",
        Kind::NetworkPolicy => " (made of spec.networkPolicy)",
        Kind::ServiceAccount
        | Kind::Role
        | Kind::RoleBinding
        | Kind::Lease
        | Kind::PodDisruptionBudget => "",
    }
}

fn name_taken(owner: &Owner, kinds: &[Kind]) -> Verdict {
    let kinds: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
    Verdict::not(
        "NameTaken",
        format!(
            "Not made by this GatewayQueue, but there already under the name {}: {}. Nothing was \
             touched; delete what is in the way, or give the GatewayQueue another name",
            owner.name,
            kinds.join(", ")
        ),
    )
}

/// Two queues would pace one token as if it were two.
pub(super) fn token_shared(queue: &GatewayQueue, owner: &Owner, holder: &Holder) -> Verdict {
    let (secret, key) = match &queue.spec.token_secret_ref {
        Some(token) => (token.name.as_str(), token.key.as_str()),
        None => ("(none)", "(none)"),
    };
    let message = match holder {
        Holder::Older(older) => format!(
            "The GatewayQueue {older} is older and names Secret {secret}, key {key} already: two \
             queues of one token would break Discord's limits. This one has no pods. Let the shards \
             call {older}, if it has pods itself, or delete one of the two"
        ),
        Holder::StillUp(other) => format!(
            "Pods of the GatewayQueue {other} still use Secret {secret}, key {key}. This one has no \
             pods until they are gone. If they do not go by themselves, see \
             `kubectl -n {} get deployments,pods -l app.kubernetes.io/instance={other}`",
            owner.namespace
        ),
    };
    Verdict::not("TokenShared", message)
}

fn scaled_to_zero(owner: &Owner) -> Verdict {
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
