//! Settings of the queue's pods.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// Settings of the queue's pods.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSettings {
    /// Labels of the pods. Keys under gatewayqueue.dev/ and the well-known labels that the
    /// operator sets are rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::labels")]
    pub labels: Option<BTreeMap<String, String>>,

    /// Annotations of the pods. Keys under gatewayqueue.dev/ are rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::annotations")]
    pub annotations: Option<BTreeMap<String, String>>,

    /// Environment variables of the queue's container, such as HTTPS_PROXY. Those that the
    /// operator sets are rejected: use the field of the spec instead. Everybody who can view this
    /// object can read them, so they must not contain passwords.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = Rule::new(no_reserved_variable()).message(
            "pod.env must not set a variable that the operator sets, or DISCORD_TOKEN, UPSTREAM, START_GUARD or ALLOW_UNSAFE_INTERVAL: use the field of the spec, if there is one"
        )
    )]
    pub env: Option<Vec<EnvVar>>,

    /// The compute resources of the queue's container. If absent or empty, it requests 10m CPU
    /// and 32Mi of memory, and is limited to 256Mi of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,

    /// The labels that a node must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::node_labels")]
    pub node_selector: Option<BTreeMap<String, String>>,

    /// The node taints that the pods tolerate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::embedded_list::<Toleration, 64>")]
    pub tolerations: Option<Vec<Toleration>>,

    /// The scheduling constraints of the pods. A pod affinity term without a labelSelector
    /// selects the queue's own pods. Unless podAntiAffinity is set, the pods prefer separate
    /// nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::embedded::<Affinity>")]
    pub affinity: Option<Affinity>,

    /// How the pods are spread over zones and nodes. A constraint without a labelSelector
    /// selects the queue's own pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::spread_constraints")]
    pub topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,

    /// The PriorityClass of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = schema::SUBDOMAIN)
    )]
    pub priority_class_name: Option<String>,

    /// The number of seconds that a pod may take to shut down, 0 to 86400. A pod that is shutting
    /// down forwards its waiting clients to the next leader until 5 s before this time is up. If
    /// absent, it is 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86_400))]
    pub termination_grace_period_seconds: Option<i64>,
}

/// The variables of the queue that [`PodSettings::env`] must not set: those that the operator
/// sets, and those that would bypass the pacing or reveal the token.
pub const RESERVED_VARIABLES: [&str; 22] = [
    "ADMIN_PORT",
    "ALLOW_UNSAFE_INTERVAL",
    "DISCORD_API",
    "DISCORD_CA_FILE",
    "DISCORD_TOKEN",
    "DISCORD_TOKEN_FILE",
    "HOST",
    "IDENTIFY_INTERVAL",
    "IDENTIFY_MARGIN",
    "LEASE_NAME",
    "LEASE_NAMESPACE",
    "LOG_FORMAT",
    "MAX_CONCURRENCY",
    "PEER_PORT",
    "POD_IP",
    "POD_NAME",
    "PORT",
    "RUST_LOG",
    "SESSION_RESERVE",
    "SHUTDOWN_GRACE",
    "START_GUARD",
    "UPSTREAM",
];

fn no_reserved_variable() -> String {
    format!("self.all(variable, !(variable.name in {RESERVED_VARIABLES:?}))")
}

/// An environment variable of the queue's container.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvVar {
    /// The name: letters, digits, '_', '-' and '.', not starting with a digit or '.'.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = "^[-_a-zA-Z][-._a-zA-Z0-9]*$")
    )]
    pub name: String,
    /// The value. If absent, it is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub value: Option<String>,
}

/// The compute resources of the queue's container.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Resources {
    /// The maximum amounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::quantities")]
    pub limits: Option<BTreeMap<String, Quantity>>,

    /// The reserved amounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::quantities")]
    pub requests: Option<BTreeMap<String, Quantity>>,
}
