//! Which clients can reach the queue's pods.

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// Which clients can reach the queue's pods. It has an effect only if the cluster's network
/// enforces NetworkPolicies.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("self.enabled || !has(self.from)").message(
        "networkPolicy.from has no effect while networkPolicy.enabled is false: set networkPolicy.enabled to true, or remove networkPolicy.from"
    )
)]
pub struct NetworkPolicySettings {
    /// Whether a NetworkPolicy is created. It allows all clients to reach the admin port (9090),
    /// only the queue's own pods to reach the peer port (9091), and only the clients listed in
    /// `from` (all clients, if it is absent or empty) to reach the queue port. Egress is not
    /// limited. Defaults to false.
    #[serde(default)]
    pub enabled: bool,

    /// The clients that may reach the queue port: pods, namespaces or IP blocks, as in a
    /// NetworkPolicy. If absent or empty, all may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::embedded_list::<NetworkPolicyPeer, 64>")]
    pub from: Option<Vec<NetworkPolicyPeer>>,
}
