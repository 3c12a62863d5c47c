//! Why a queue has no pods, or none of the present spec, whatever its Deployment
//! says: something is in the way, or it shall have none.

use super::{Outcome, Verdict, sentence};
use crate::api::GatewayQueue;
use crate::desired::{Kind, Owner};

pub(super) fn blocked(queue: &GatewayQueue, owner: &Owner, outcome: &Outcome) -> Option<Verdict> {
    match outcome {
        Outcome::NameTaken(kinds) => Some(name_taken(owner, kinds)),
        Outcome::Refused { kind, message } => Some(Verdict::not(
            "ChildRefused",
            format!("The API server refuses the {}: {message}", kind.word()),
        )),
        Outcome::Invalid(message) => Some(Verdict::not("InvalidSpec", sentence(message))),
        Outcome::TokenShared(older) => Some(token_shared(queue, older)),
        Outcome::Applied if queue.spec.replicas == 0 => Some(scaled_to_zero(owner)),
        Outcome::Applied => None,
    }
}

fn name_taken(owner: &Owner, kinds: &[Kind]) -> Verdict {
    let kinds: Vec<&str> = kinds.iter().map(|kind| kind.word()).collect();
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
pub(super) fn token_shared(queue: &GatewayQueue, older: &str) -> Verdict {
    let (secret, key) = match &queue.spec.token_secret_ref {
        Some(token) => (token.name.as_str(), token.key.as_str()),
        None => ("(none)", "(none)"),
    };
    Verdict::not(
        "TokenShared",
        format!(
            "The GatewayQueue {older} is older and uses Secret {secret}, key {key} already: two \
             queues of one token would break Discord's limits. This one has no pods; \
             let the shards call {older}, or delete one of the two"
        ),
    )
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
