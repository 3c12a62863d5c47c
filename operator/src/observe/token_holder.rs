//! Which other GatewayQueue has the token that a GatewayQueue names.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;

use crate::api::GatewayQueue;
use crate::desired::{INSTANCE, Owner, TOKEN, token_hash};
use crate::observe::caches::Caches;
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
        .filter(|d| is_near(&d.metadata) && uses(d, hash))
        .map(|d| d.name_any());
    let pods = caches.all_pods().into_iter();
    let pods = pods
        .filter(|pod| is_near(&pod.metadata) && token(pod) == Some(hash) && may_grant(pod))
        .filter_map(|pod| instance(&pod).map(str::to_owned));
    deployments.chain(pods).find(|name| *name != owner.name)
}

/// Whether a Deployment has, or will have, pods that grant with a token.
fn uses(deployment: &Deployment, hash: &str) -> bool {
    let spec = deployment.spec.as_ref();
    let labels = spec
        .and_then(|spec| spec.template.metadata.as_ref())
        .and_then(|metadata| metadata.labels.as_ref());
    let label = labels.and_then(|labels| labels.get(TOKEN));
    // Kubernetes defaults to one pod.
    let desired = spec.map_or(0, |spec| spec.replicas.unwrap_or(1));
    let status = deployment.status.as_ref();
    let existing = status.and_then(|status| status.replicas).unwrap_or(0);
    label.map(String::as_str) == Some(hash) && (desired > 0 || existing > 0)
}

fn may_grant(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed"))
}

/// The hash of the token with which a pod grants.
pub(super) fn token(pod: &Pod) -> Option<&str> {
    pod.labels().get(TOKEN).map(String::as_str)
}

/// The name of the GatewayQueue of a pod.
pub(super) fn instance(pod: &Pod) -> Option<&str> {
    pod.labels().get(INSTANCE).map(String::as_str)
}
