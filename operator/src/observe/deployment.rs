//! The Deployment of a queue, as far as the operator reads it.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use serde::Deserialize;

use crate::desired::{APPLIED, INSTANCE, TOKEN};
use crate::observe::compact_metadata::CompactMetadata;
use crate::observe::of_kind::of_kind;

/// The Deployment of a queue.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Raw")]
pub struct ObservedDeployment {
    /// Its metadata.
    pub metadata: CompactMetadata,
    /// The desired number of pods.
    pub replicas: i32,
    /// The name of its GatewayQueue.
    pub instance: Option<String>,
    /// The hash of the token of its pods.
    pub token: Option<String>,
    /// Its status.
    pub status: DeploymentStatus,
}

impl ObservedDeployment {
    /// Returns the hash of the manifest that was applied.
    pub fn applied_hash(&self) -> Option<String> {
        self.metadata.annotations().remove(APPLIED)
    }
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    metadata: CompactMetadata,
    spec: Option<Spec>,
    status: Option<DeploymentStatus>,
}

#[derive(Deserialize)]
struct Spec {
    replicas: Option<i32>,
    template: Option<Template>,
}

#[derive(Deserialize)]
struct Template {
    metadata: Option<TemplateMetadata>,
}

#[derive(Deserialize)]
struct TemplateMetadata {
    labels: Option<BTreeMap<String, String>>,
}

impl From<Raw> for ObservedDeployment {
    fn from(raw: Raw) -> Self {
        let replicas = raw.spec.as_ref().and_then(|spec| spec.replicas);
        let template = raw.spec.and_then(|spec| spec.template);
        let labels = template.and_then(|template| template.metadata?.labels);
        let mut labels = labels.unwrap_or_default();
        Self {
            metadata: raw.metadata,
            // The default of Kubernetes.
            replicas: replicas.unwrap_or(1),
            instance: labels.remove(INSTANCE),
            token: labels.remove(TOKEN),
            status: raw.status.unwrap_or_default(),
        }
    }
}

of_kind!(ObservedDeployment, Deployment, metadata.identity);
