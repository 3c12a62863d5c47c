//! Which other GatewayQueue has the token that a GatewayQueue names.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::GatewayQueue;
use crate::desired::{Owner, token_hash};
use crate::observe::caches::Caches;
use crate::observe::deployment::ObservedDeployment;
use crate::observe::token_claims::TokenClaims;

/// The GatewayQueue that has a token, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// An older GatewayQueue that names the same token.
    Older(String),
    /// One that no longer names it, or was deleted, and whose pods still exist.
    StillUp(String),
}

/// Returns which other GatewayQueue grants, or may grant, with the token of this one.
pub fn token_holder(
    claims: &TokenClaims,
    caches: &Caches,
    queue: &GatewayQueue,
    owner: &Owner,
) -> Option<Holder> {
    if let Some(older) = claims.older(queue) {
        return Some(Holder::Older(older));
    }
    let hash = token_hash(queue.spec.token_secret_ref.as_ref()?);
    // A queue that already uses the token does not give it up for the pods of another.
    let deployment = caches.deployment(owner);
    let is_up = deployment.is_some_and(|deployment| uses(&deployment, &hash));
    if queue.spec.replicas == 0 || is_up {
        return None;
    }
    other_user(caches, owner, &hash).map(Holder::StillUp)
}

/// Another GatewayQueue, existing or deleted, whose pods may grant with a token.
fn other_user(caches: &Caches, owner: &Owner, hash: &str) -> Option<String> {
    let is_near = |object: &ObjectMeta| object.namespace.as_ref() == Some(&owner.namespace);
    let deployments = caches.all_deployments().into_iter();
    let deployments = deployments
        .filter(|d| is_near(&d.metadata.identity) && uses(d, hash))
        .filter_map(|d| d.instance.clone());
    let pods = caches.all_pods().into_iter();
    let pods = pods
        .filter(|pod| is_near(&pod.metadata) && pod.token() == Some(hash) && pod.is_running())
        .filter_map(|pod| pod.instance().map(str::to_owned));
    deployments.chain(pods).find(|name| *name != owner.name)
}

/// Whether a Deployment has, or will have, pods that grant with a token.
fn uses(deployment: &ObservedDeployment, hash: &str) -> bool {
    let existing = deployment.status.replicas.unwrap_or(0);
    deployment.token.as_deref() == Some(hash) && (deployment.replicas > 0 || existing > 0)
}
