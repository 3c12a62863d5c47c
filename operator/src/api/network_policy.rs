//! Who can reach the queue's pods.

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// Who can reach the queue's pods. The network of the cluster has to enforce
/// NetworkPolicies: not every one does.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("self.enabled || !has(self.from)").message(
        "networkPolicy.from has no effect while networkPolicy.enabled is false: set enabled to true, or remove from"
    )
)]
pub struct NetworkPolicySettings {
    /// Whether there is a NetworkPolicy. It lets everybody reach the admin port
    /// (probes, metrics, the page), only the queue's own pods the peer port, and
    /// those in `from` the port where shards ask. What the pods send is not limited.
    /// Defaults to false.
    #[serde(default)]
    pub enabled: bool,

    /// Those who may ask for their turn: pods, namespaces or IP blocks, as in a
    /// NetworkPolicy. When absent or empty, everybody may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::embedded_list::<NetworkPolicyPeer, 64>")]
    pub from: Option<Vec<NetworkPolicyPeer>>,
}
