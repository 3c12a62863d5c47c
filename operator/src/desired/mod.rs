//! What shall be there for a GatewayQueue. Pure: the same object gives the
//! same children, down to the byte.

mod deployment;
mod disruption_budget;
mod lease;
mod network_policy;
mod role;
mod role_binding;
mod service;
mod service_account;
mod volumes;

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use kube::api::ApiResource;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::MANAGER;
use crate::api::{GatewayQueue, GatewayQueueSpec, ImagePullPolicy, TokenSecretRef};

pub use lease::first_lease;

/// The label by which the operator finds what it made: the name of the GatewayQueue.
/// In our own domain, because others rewrite the well-known labels.
pub const NAME: &str = "gatewayqueue.dev/name";

/// The domain whose labels and annotations belong to the operator and the queue.
pub const DOMAIN: &str = "gatewayqueue.dev";

/// The well-known label that names the tool. An earlier version of the operator found
/// its objects by it.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Finds the pods of all queues. They always have these labels, whichever version of the
/// operator made them: a Deployment has no pods that its selector does not match.
pub const POD_SELECTOR: &str =
    "app.kubernetes.io/component=queue,app.kubernetes.io/name=gateway-queue";

/// The label that says of which GatewayQueue an object is.
pub const INSTANCE: &str = "app.kubernetes.io/instance";

/// The label that says by which token a pod grants, and a Lease is led: a mark of the
/// Secret and its key. Of pods that have one, whose they are: a token is in use for
/// as long as there is a pod with it.
pub const TOKEN: &str = "gatewayqueue.dev/token-ref-hash";

/// The value of [`TOKEN`] for a queue without one.
const NO_TOKEN: &str = "none";

/// The annotation on a child that tells of what the operator applied. When it
/// differs from what would be applied now, the child is applied again; values
/// are never compared, since the API server rewrites some (`1000m` to `1`).
pub const APPLIED: &str = "gatewayqueue.dev/applied-hash";

/// What the operator was installed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueDefaults {
    /// The image of a queue whose spec names none.
    pub image: String,
    /// Its pull policy; none leaves the choice to Kubernetes.
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// The Secrets with which it is pulled, when the spec names no image and no
    /// Secrets.
    pub image_pull_secrets: Vec<String>,
}

/// The kinds of children, in the order in which they are applied: what a pod
/// needs comes before the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the kinds of Kubernetes")]
pub enum Kind {
    ServiceAccount,
    Role,
    RoleBinding,
    Lease,
    Service,
    PodDisruptionBudget,
    NetworkPolicy,
    Deployment,
}

impl Kind {
    /// The kinds that not every GatewayQueue asks for: what a spec before has
    /// asked for is deleted.
    pub const OPTIONAL: [Self; 3] = [Self::PodDisruptionBudget, Self::NetworkPolicy, Self::Lease];

    /// Where the API server serves objects of this kind.
    pub fn resource(self) -> ApiResource {
        match self {
            Self::ServiceAccount => ApiResource::erase::<ServiceAccount>(&()),
            Self::Role => ApiResource::erase::<Role>(&()),
            Self::RoleBinding => ApiResource::erase::<RoleBinding>(&()),
            Self::Lease => ApiResource::erase::<Lease>(&()),
            Self::Service => ApiResource::erase::<Service>(&()),
            Self::PodDisruptionBudget => ApiResource::erase::<PodDisruptionBudget>(&()),
            Self::NetworkPolicy => ApiResource::erase::<NetworkPolicy>(&()),
            Self::Deployment => ApiResource::erase::<Deployment>(&()),
        }
    }

    /// The name of the kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServiceAccount => "ServiceAccount",
            Self::Role => "Role",
            Self::RoleBinding => "RoleBinding",
            Self::Lease => "Lease",
            Self::Service => "Service",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::Deployment => "Deployment",
        }
    }
}

/// One object that shall be there.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// Its kind.
    pub kind: Kind,
    /// What is applied: the fields that the operator owns, no others.
    pub manifest: Value,
    /// Stands for the manifest: another one has another mark.
    pub mark: String,
}

/// Why no children can be made of a GatewayQueue.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not come from an API server.
    #[error("the GatewayQueue has no metadata.{0}")]
    Incomplete(&'static str),
    /// The schema that is installed is not the operator's own.
    #[error(
        "spec.{field} is {value:?}, which is no duration such as 5s or 250ms; the installed CRD is older or newer than the operator"
    )]
    Duration {
        /// The field of the spec.
        field: &'static str,
        /// What it says.
        value: String,
    },
    /// A child cannot be written as JSON.
    #[error("cannot write a child as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// A GatewayQueue as its children refer to it: all have its name and namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The name of the GatewayQueue and of each child.
    pub name: String,
    /// The namespace of all of them.
    pub namespace: String,
    /// The UID, by which a child is told from a stranger of the same name.
    pub uid: String,
}

impl Owner {
    /// The identity of a GatewayQueue.
    ///
    /// # Errors
    /// [`Error::Incomplete`] for an object that no API server has stored.
    pub fn of(queue: &GatewayQueue) -> Result<Self, Error> {
        Self::by(&queue.metadata)
    }

    /// The identity of a GatewayQueue that has this metadata.
    ///
    /// # Errors
    /// As of [`Owner::of`].
    pub fn by(metadata: &ObjectMeta) -> Result<Self, Error> {
        let there = |field: &Option<String>, name| field.clone().ok_or(Error::Incomplete(name));
        Ok(Self {
            name: there(&metadata.name, "name")?,
            namespace: there(&metadata.namespace, "namespace")?,
            uid: there(&metadata.uid, "uid")?,
        })
    }

    /// The labels by which pods are selected. They can never change: the
    /// selector of a Deployment is immutable.
    fn selector(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("app.kubernetes.io/component".to_owned(), "queue".to_owned()),
            (INSTANCE.to_owned(), self.name.clone()),
            (
                "app.kubernetes.io/name".to_owned(),
                "gateway-queue".to_owned(),
            ),
        ])
    }

    /// The same labels as kubectl takes them.
    pub fn selector_text(&self) -> String {
        let pairs = self.selector().into_iter();
        let pairs: Vec<String> = pairs.map(|(key, value)| format!("{key}={value}")).collect();
        pairs.join(",")
    }

    /// The labels of the pods, on top of those that a user asks for.
    fn labels(&self, asked: Option<&BTreeMap<String, String>>) -> BTreeMap<String, String> {
        let mut labels = allowed(asked).unwrap_or_default();
        labels.extend(self.selector());
        labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
        labels
    }

    /// The metadata of a child.
    fn metadata(&self) -> ObjectMeta {
        self.metadata_with(None, None)
    }

    /// The metadata of a child, with the labels and annotations that a user asks for.
    fn metadata_with(
        &self,
        asked_labels: Option<&BTreeMap<String, String>>,
        asked_annotations: Option<&BTreeMap<String, String>>,
    ) -> ObjectMeta {
        let mut labels = self.labels(asked_labels);
        labels.insert(NAME.to_owned(), self.name.clone());
        ObjectMeta {
            name: Some(self.name.clone()),
            namespace: Some(self.namespace.clone()),
            labels: Some(labels),
            annotations: allowed(asked_annotations),
            owner_references: Some(vec![OwnerReference {
                api_version: GatewayQueue::api_version(&()).into_owned(),
                kind: GatewayQueue::kind(&()).into_owned(),
                name: self.name.clone(),
                uid: self.uid.clone(),
                controller: Some(true),
                // Left out: setting it needs a right on finalizers where the
                // API server checks, and nobody waits for the children to go.
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        }
    }
}

/// The labels or annotations that a user may set: the schema refuses the others, but may
/// be older than this operator.
fn allowed(asked: Option<&BTreeMap<String, String>>) -> Option<BTreeMap<String, String>> {
    let mut allowed = asked.cloned()?;
    allowed.retain(|key, _| !is_reserved(key));
    Some(allowed).filter(|allowed| !allowed.is_empty())
}

/// Whether a key is in our domain, or in one below it.
fn is_reserved(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else {
        return false;
    };
    let above = domain.strip_suffix(DOMAIN);
    above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
}

/// The mark of the Deployment among these children: one that was applied from
/// this spec carries it.
pub fn deployment_mark(children: &[Child]) -> Option<String> {
    let deployment = children.iter().find(|c| c.kind == Kind::Deployment)?;
    Some(deployment.mark.clone())
}

/// The children of a GatewayQueue, in the order in which to apply them. One that
/// stands down, because another uses its token, has no pods, and no Lease either:
/// its next one is blank, and so its pods wait until whoever granted by that token
/// must have stopped.
///
/// # Errors
/// See [`Error`]; none of them passes by itself.
pub fn children(
    queue: &GatewayQueue,
    defaults: &QueueDefaults,
    stands_down: bool,
) -> Result<Vec<Child>, Error> {
    let owner = Owner::of(queue)?;
    let mut spec = queue.spec.clone();
    if stands_down {
        spec.replicas = 0;
    }
    let mut children = vec![
        child(
            Kind::ServiceAccount,
            &service_account::service_account(&owner),
        )?,
        child(Kind::Role, &role::role(&owner))?,
        child(Kind::RoleBinding, &role_binding::role_binding(&owner))?,
    ];
    if !stands_down {
        children.push(unmarked(Kind::Lease, &lease::lease(&owner, &spec))?);
    }
    let service = service::service(&owner, &spec.service);
    children.push(child(Kind::Service, &service)?);
    // About a single pod it would say nothing.
    if spec.replicas > 1 {
        children.push(child(
            Kind::PodDisruptionBudget,
            &disruption_budget::disruption_budget(&owner),
        )?);
    }
    if let Some(policy) = spec.network_policy.as_ref().filter(|policy| policy.enabled) {
        children.push(child(
            Kind::NetworkPolicy,
            &network_policy::network_policy(&owner, policy.from.as_deref()),
        )?);
    }
    children.push(child(
        Kind::Deployment,
        &deployment::deployment(&owner, &spec, defaults)?,
    )?);
    Ok(children)
}

/// 64 bits tell two versions of one object apart, and the Secrets of a namespace.
fn mark_of(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// Stands for a token, by the place where it is: the value of [`TOKEN`].
pub fn token_mark(token: &TokenSecretRef) -> String {
    // No name has a line break in it.
    mark_of(format!("{}\n{}", token.name, token.key).as_bytes())
}

/// The value of [`TOKEN`] for a queue of this spec.
fn token_label(spec: &GatewayQueueSpec) -> String {
    let token = spec.token_secret_ref.as_ref();
    token.map_or_else(|| NO_TOKEN.to_owned(), token_mark)
}

/// A child that carries its mark.
fn child(kind: Kind, object: &impl Serialize) -> Result<Child, Error> {
    let mut child = unmarked(kind, object)?;
    child.manifest["metadata"]["annotations"][APPLIED] = Value::String(child.mark.clone());
    Ok(child)
}

/// A child that does not: the annotations of the Lease are the queue's.
fn unmarked(kind: Kind, object: &impl Serialize) -> Result<Child, Error> {
    let mut manifest = serde_json::to_value(object)?;
    prune(&mut manifest);
    let mark = mark_of(&serde_json::to_vec(&manifest)?);
    Ok(Child {
        kind,
        manifest,
        mark,
    })
}

/// The fields that are maps of strings. Empty, they are as if absent; an empty selector,
/// also an object in JSON, selects everything.
const MAPS: [&str; 6] = [
    "annotations",
    "labels",
    "limits",
    "matchLabels",
    "nodeSelector",
    "requests",
];

/// Removes what an API server does not keep: lists and maps that are empty. For some of
/// them it records no owner either, so that they would look as if taken away.
fn prune(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(prune),
        Value::Object(fields) => {
            fields.values_mut().for_each(prune);
            fields.retain(|name, value| match value {
                Value::Null => false,
                Value::Array(items) => !items.is_empty(),
                Value::Object(entries) => !(entries.is_empty() && MAPS.contains(&name.as_str())),
                _ => true,
            });
        }
        _ => {}
    }
}

#[cfg(test)]
mod golden;
#[cfg(test)]
pub(crate) mod tests;
