//! Builds the desired children of a GatewayQueue. Pure: the same GatewayQueue gives the same
//! children, down to the byte.

mod deployment;
mod disruption_budget;
mod lease;
mod metadata;
mod network_policy;
mod role;
mod role_binding;
mod service;
mod service_account;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use kube::api::ApiResource;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::MANAGER;
use crate::api::{GatewayQueue, GatewayQueueSpec, ImagePullPolicy, TokenSecretRef, names};

use deployment::deployment;
use disruption_budget::disruption_budget;
use metadata::Asked;
use network_policy::network_policy;
use role::role;
use role_binding::role_binding;
use service::service;
use service_account::service_account;

pub use lease::first_lease;
pub use metadata::{is_reserved, is_well_known};

/// The label by which the operator finds its objects: the name of the GatewayQueue. It is in
/// our own domain, because some platforms rewrite the well-known labels.
pub const NAME: &str = "gatewayqueue.dev/name";

/// The domain of the labels and annotations that only the operator and the queue set.
pub const DOMAIN: &str = "gatewayqueue.dev";

/// The well-known label for the tool. An earlier version of the operator found its objects by
/// it.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Selects the pods of all queues. They have these labels, whichever version of the operator
/// created them: a Deployment's pods match its selector, which is immutable.
pub const POD_SELECTOR: &str =
    "app.kubernetes.io/component=queue,app.kubernetes.io/name=gateway-queue";

/// The well-known label for the GatewayQueue of an object.
pub const INSTANCE: &str = "app.kubernetes.io/instance";

/// The label for the token of a pod or Lease: a hash of the Secret's name and key. A token is
/// in use as long as a pod has its label.
pub const TOKEN: &str = "gatewayqueue.dev/token-ref-hash";

/// The label of a pod with the port on which its queue listens.
pub const POD_PORT: &str = "gatewayqueue.dev/port";

/// The value of [`TOKEN`] for a queue without one.
const NO_TOKEN: &str = "none";

/// The annotation of a child with the hash of its manifest. If the hash differs from that of
/// the desired manifest, the child is applied again. Values are not compared, because the API
/// server rewrites some (`1000m` to `1`).
pub const APPLIED: &str = "gatewayqueue.dev/applied-hash";

/// What the names of all children but the Service end with, after that of the GatewayQueue.
const CHILD_SUFFIX: &str = "-queue";

/// The operator's settings for queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueDefaults {
    /// The image, if the spec names none.
    pub image: String,
    /// Its pull policy; if absent, the default of Kubernetes.
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Its pull Secrets, if the spec names neither an image nor Secrets.
    pub image_pull_secrets: Vec<String>,
}

names! {
    /// The kinds of children, in the order in which they are applied: what a pod needs comes
    /// before the pod.
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
}

impl Kind {
    /// The kinds that not every spec asks for. They are deleted when a spec no longer does.
    pub const OPTIONAL: [Self; 3] = [Self::PodDisruptionBudget, Self::NetworkPolicy, Self::Lease];

    /// The name of the child of this kind. Only the Service has the name of the GatewayQueue,
    /// because clients use it: a bot's own Deployment and ServiceAccount often have it, too.
    pub fn name_for(self, owner: &Owner) -> String {
        match self {
            Self::Service => owner.name.clone(),
            _ => format!("{}{CHILD_SUFFIX}", owner.name),
        }
    }

    /// The name of the GatewayQueue of a child of this kind.
    pub fn queue_of(self, child: &str) -> &str {
        match self {
            Self::Service => child,
            _ => child.strip_suffix(CHILD_SUFFIX).unwrap_or(child),
        }
    }

    /// The API resource of this kind.
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
}

/// A desired object.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// Its kind.
    pub kind: Kind,
    /// The manifest: exactly the fields that the operator owns.
    pub manifest: Value,
    /// The hash of the manifest.
    pub hash: String,
}

/// Why no children can be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The GatewayQueue has not been stored by an API server.
    #[error("the GatewayQueue has no metadata.{0}")]
    Incomplete(&'static str),
    /// The installed CRD accepts what this operator version does not.
    #[error(
        "spec.{field} is {value:?}; accepted is a duration such as 5s or 250ms. The installed CRD is older or newer than the operator"
    )]
    Duration {
        /// The field of the spec.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// A child cannot be serialized.
    #[error("cannot serialize a child: {0}")]
    Json(#[from] serde_json::Error),
}

/// The identity of a GatewayQueue. All children have its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The name of the GatewayQueue: see [`Kind::name_for`] for those of its children.
    pub name: String,
    /// The namespace of all of them.
    pub namespace: String,
    /// The UID, which distinguishes its children from other objects of the name.
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

    /// The identity of a GatewayQueue with this metadata.
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

    /// The labels that select the pods. They must never change: the selector of a Deployment
    /// is immutable.
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

    /// The same labels, as a selector for kubectl.
    pub fn selector_text(&self) -> String {
        let pairs = self.selector().into_iter();
        let pairs: Vec<String> = pairs.map(|(key, value)| format!("{key}={value}")).collect();
        pairs.join(",")
    }

    /// The labels of the pods, which take precedence over those of the spec.
    fn labels(&self, asked: &Asked) -> BTreeMap<String, String> {
        let mut labels = asked.labels.clone();
        labels.extend(self.selector());
        labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
        labels
    }

    /// The metadata of a child, with labels and annotations of the spec.
    fn metadata(&self, kind: Kind, asked: &Asked) -> ObjectMeta {
        let mut labels = self.labels(asked);
        labels.insert(NAME.to_owned(), self.name.clone());
        ObjectMeta {
            name: Some(kind.name_for(self)),
            namespace: Some(self.namespace.clone()),
            labels: Some(labels),
            annotations: Some(asked.annotations.clone()),
            owner_references: Some(vec![OwnerReference {
                api_version: GatewayQueue::api_version(&()).into_owned(),
                kind: GatewayQueue::kind(&()).into_owned(),
                name: self.name.clone(),
                uid: self.uid.clone(),
                controller: Some(true),
                // Setting it would require rights on finalizers on some platforms, and
                // foreground deletion is not needed.
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        }
    }
}

/// The hash of the Deployment among these children.
pub fn deployment_hash(children: &[Child]) -> Option<&str> {
    let deployment = children.iter().find(|c| c.kind == Kind::Deployment)?;
    Some(&deployment.hash)
}

/// Returns the children of a GatewayQueue, in the order in which to apply them. If another
/// GatewayQueue has its token, it has no pods and no Lease: its next Lease is blank, so its pods
/// wait until the leader of the other one must have stopped. `pod_ports` are the queue ports of its
/// existing pods.
///
/// # Errors
/// See [`Error`]; none of them is temporary.
pub fn children(
    queue: &GatewayQueue,
    defaults: &QueueDefaults,
    is_token_taken: bool,
    pod_ports: &BTreeSet<i32>,
) -> Result<Vec<Child>, Error> {
    let owner = Owner::of(queue)?;
    let mut spec = queue.spec.clone();
    if is_token_taken {
        spec.replicas = 0;
    }
    let asked = Asked::inherited(&spec);
    let plain = |kind, fields| child(kind, owner.metadata(kind, &asked), fields);
    let mut children = vec![
        plain(Kind::ServiceAccount, service_account())?,
        plain(Kind::Role, role(&owner))?,
        plain(Kind::RoleBinding, role_binding(&owner))?,
    ];
    if !is_token_taken {
        let metadata = lease::metadata(&owner, &spec);
        children.push(without_hash(Kind::Lease, metadata, json!({}))?);
    }
    let settings = &spec.service;
    let asked_of_service = asked
        .clone()
        .with(settings.labels.as_ref(), settings.annotations.as_ref());
    let metadata = owner.metadata(Kind::Service, &asked_of_service);
    children.push(child(Kind::Service, metadata, service(&owner, settings))?);
    // For a single pod it would have no effect.
    if spec.replicas > 1 {
        children.push(plain(Kind::PodDisruptionBudget, disruption_budget(&owner))?);
    }
    if let Some(policy) = spec.network_policy.as_ref().filter(|policy| policy.enabled) {
        let mut ports = pod_ports.clone();
        ports.insert(spec.port);
        let policy = network_policy(&owner, policy.from.as_deref(), &ports);
        children.push(plain(Kind::NetworkPolicy, policy)?);
    }
    children.push(plain(
        Kind::Deployment,
        deployment(&owner, &spec, defaults)?,
    )?);
    Ok(children)
}

/// 64 bits are enough to distinguish versions of an object, or Secrets of a namespace.
fn hash_of(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// The hash of the place of a token: the value of [`TOKEN`].
pub fn token_hash(token: &TokenSecretRef) -> String {
    // Names contain no line break.
    hash_of(format!("{}\n{}", token.name, token.key).as_bytes())
}

/// The value of [`TOKEN`] for a queue of this spec.
fn token_label(spec: &GatewayQueueSpec) -> String {
    let token = spec.token_secret_ref.as_ref();
    token.map_or_else(|| NO_TOKEN.to_owned(), token_hash)
}

/// A child with its hash as an annotation.
fn child(kind: Kind, metadata: ObjectMeta, fields: Value) -> Result<Child, Error> {
    let mut child = without_hash(kind, metadata, fields)?;
    child.manifest["metadata"]["annotations"][APPLIED] = Value::String(child.hash.clone());
    Ok(child)
}

/// A child without the annotation: only the queue writes those of the Lease. `fields` are those
/// below the metadata.
fn without_hash(kind: Kind, metadata: ObjectMeta, fields: Value) -> Result<Child, Error> {
    let mut manifest = fields;
    let resource = kind.resource();
    manifest["apiVersion"] = Value::String(resource.api_version);
    manifest["kind"] = Value::String(resource.kind);
    manifest["metadata"] = serde_json::to_value(metadata)?;
    prune(&mut manifest);
    let hash = hash_of(&serde_json::to_vec(&manifest)?);
    Ok(Child {
        kind,
        manifest,
        hash,
    })
}

/// The fields that are maps of strings. An empty map means the same as an absent one, while an
/// empty selector, which is also a JSON object, selects everything.
const MAPS: [&str; 6] = [
    "annotations",
    "labels",
    "limits",
    "matchLabels",
    "nodeSelector",
    "requests",
];

/// Removes empty lists and maps, which the API server does not store. For some of them it
/// records no owner, so they would count as removed by another client.
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
mod tests;
