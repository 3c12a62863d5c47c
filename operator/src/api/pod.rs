//! How the queue's pod is made and where it runs: what a platform asks for.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// How the queue's pod is made and where it runs.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSettings {
    /// Labels of the pod. Keys under gatewayqueue.dev/ and the well-known labels that the
    /// operator sets are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::labels")]
    pub labels: Option<BTreeMap<String, String>>,

    /// Annotations of the pod. Keys under gatewayqueue.dev/ are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::annotations")]
    pub annotations: Option<BTreeMap<String, String>>,

    /// The compute resources of the queue's container. When absent or empty, it asks
    /// for 10m of CPU and 32Mi of memory, and is limited to 256Mi of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,

    /// Labels that a node must have to run the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::node_labels")]
    pub node_selector: Option<BTreeMap<String, String>>,

    /// Taints of nodes that the pod tolerates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::embedded_list::<Toleration, 64>")]
    pub tolerations: Option<Vec<Toleration>>,

    /// The scheduling constraints of the pod: which nodes it runs on, and which pods it
    /// runs near or away from. A term for pods without a labelSelector is about the
    /// queue's own pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::embedded::<Affinity>")]
    pub affinity: Option<Affinity>,

    /// How pods are spread over zones and nodes. A constraint without a labelSelector is
    /// about the queue's own pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::spread_constraints")]
    pub topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,

    /// The PriorityClass of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = schema::SUBDOMAIN)
    )]
    pub priority_class_name: Option<String>,

    /// How long, in seconds, the pod may take to end, from 0 to 86400. For so
    /// long, less five seconds, it goes on to ask the next leader for those who
    /// wait on it. When absent, it is 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86_400))]
    pub termination_grace_period_seconds: Option<i64>,
}

/// The compute resources of the queue's container.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Resources {
    /// The most it may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::quantities")]
    pub limits: Option<BTreeMap<String, Quantity>>,

    /// What is set aside for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::quantities")]
    pub requests: Option<BTreeMap<String, Quantity>>,
}
