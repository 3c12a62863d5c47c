//! Why a queue has no pods, or none of the current spec, regardless of its Deployment.

use super::Inputs;
use super::condition_value::ConditionValue;
use super::text::{period, place, sentence};
use crate::api::Reason;
use crate::apply::Outcome;
use crate::desired::{Kind, Owner};
use crate::observe::token_holder::Holder;

/// Returns what prevents pods of the current spec, if anything does.
pub(super) fn spec_blocked(inputs: Inputs<'_>) -> Option<ConditionValue> {
    let Owner {
        name, namespace, ..
    } = inputs.owner;
    let (reason, message) = match inputs.outcome {
        Outcome::NameTaken(kinds) => (
            Reason::NameTaken,
            format!(
                "Objects that this GatewayQueue does not own already exist with the names of its \
                 own: {}. Delete them, or create the GatewayQueue under another name.",
                kinds
                    .iter()
                    .map(|kind| format!("{} {}", kind.as_str(), kind.name_for(inputs.owner)))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        ),
        Outcome::Refused { kind, message } => (
            Reason::ChildRefused,
            format!(
                "The API server rejected {} {}{}{}: {}",
                kind.as_str(),
                kind.name_for(inputs.owner),
                origin(*kind),
                if inputs.queue.spec.inherited_metadata.is_some() {
                    ", with spec.inheritedMetadata"
                } else {
                    ""
                },
                period(message)
            ),
        ),
        Outcome::Invalid(message) => (Reason::InvalidSpec, sentence(message)),
        Outcome::TokenShared(holder) => return Some(token_shared(inputs, holder)),
        Outcome::Failed(message) => (
            Reason::ApplyFailed,
            format!(
                "{} The operator retries with increasing pauses; check the API server and its \
                 admission webhooks.",
                sentence(message)
            ),
        ),
        Outcome::Applied if inputs.queue.spec.replicas == 0 => (
            Reason::ScaledToZero,
            format!(
                "No shard is granted, because spec.replicas is 0. Start the queue with \
                 `kubectl -n {namespace} scale gwq {name} --replicas=1`."
            ),
        ),
        Outcome::Applied => return None,
    };
    Some(ConditionValue::no(reason, message))
}

/// The field of the spec to correct if the API server rejects a child: its message names
/// fields of the child.
fn origin(kind: Kind) -> &'static str {
    match kind {
        Kind::Deployment => ", which is built from spec.pod, spec.image and others",
        Kind::Service => ", which is built from spec.service",
        Kind::NetworkPolicy => ", which is built from spec.networkPolicy",
        Kind::ServiceAccount
        | Kind::Role
        | Kind::RoleBinding
        | Kind::Lease
        | Kind::PodDisruptionBudget => "",
    }
}

/// Another GatewayQueue has the token: two queues would pace it independently.
pub(super) fn token_shared(inputs: Inputs<'_>, holder: &Holder) -> ConditionValue {
    let token = place(inputs.queue.spec.token_secret_ref.as_ref());
    let message = match holder {
        Holder::Older(older) => format!(
            "GatewayQueue {older} is older and uses {token}, too; this one has no pods, because \
             two queues with one token would exceed Discord's limits. Send the shards to {older}, \
             or delete one of the two."
        ),
        Holder::StillUp(other) => format!(
            "Pods of GatewayQueue {other} still use {token}; this one starts when they are gone. \
             Check `kubectl -n {} get deployments,pods -l app.kubernetes.io/instance={other}`.",
            inputs.owner.namespace
        ),
    };
    ConditionValue::no(Reason::TokenShared, message)
}
