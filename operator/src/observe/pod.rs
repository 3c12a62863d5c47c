//! A pod of a queue, as far as the operator reads it.

use std::num::NonZeroU16;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use serde::Deserialize;

use crate::desired::{INSTANCE, POD_PORT, TOKEN};
use crate::observe::of_kind::of_kind;

/// A pod of a queue.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Raw")]
pub struct ObservedPod {
    /// What identifies it, its labels [`INSTANCE`] and [`TOKEN`], and when it was created and
    /// deleted.
    pub metadata: ObjectMeta,
    /// Its phase, containers and conditions.
    pub status: Option<PodStatus>,
}

impl ObservedPod {
    /// Returns the hash of the token with which it grants.
    pub fn token(&self) -> Option<&str> {
        self.labels().get(TOKEN).map(String::as_str)
    }

    /// Returns the port on which its queue listens, unless it has exited.
    pub fn port(&self) -> Option<i32> {
        let port: NonZeroU16 = self.labels().get(POD_PORT)?.parse().ok()?;
        self.is_running().then(|| port.get().into())
    }

    /// Whether its processes may still run.
    pub fn is_running(&self) -> bool {
        let status = self.status.as_ref();
        let phase = status.and_then(|status| status.phase.as_deref());
        !matches!(phase, Some("Succeeded" | "Failed"))
    }

    /// Returns the name of its GatewayQueue.
    pub fn instance(&self) -> Option<&str> {
        self.labels().get(INSTANCE).map(String::as_str)
    }
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    metadata: ObjectMeta,
    status: Option<PodStatus>,
}

impl From<Raw> for ObservedPod {
    fn from(raw: Raw) -> Self {
        let mut labels = raw.metadata.labels.unwrap_or_default();
        labels.retain(|key, _| [INSTANCE, TOKEN].contains(&key.as_str()));
        let metadata = ObjectMeta {
            name: raw.metadata.name,
            namespace: raw.metadata.namespace,
            uid: raw.metadata.uid,
            resource_version: raw.metadata.resource_version,
            creation_timestamp: raw.metadata.creation_timestamp,
            deletion_timestamp: raw.metadata.deletion_timestamp,
            labels: Some(labels),
            ..ObjectMeta::default()
        };
        let status = raw.status.map(|status| PodStatus {
            phase: status.phase,
            reason: status.reason,
            message: status.message,
            conditions: status.conditions,
            init_container_statuses: status.init_container_statuses,
            container_statuses: status.container_statuses,
            ..PodStatus::default()
        });
        Self { metadata, status }
    }
}

of_kind!(ObservedPod, Pod, metadata);
