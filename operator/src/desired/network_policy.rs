//! The NetworkPolicy.

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use serde_json::{Value, json};

use super::Owner;
use super::deployment::{ADMIN, PEER, QUEUE_PORT};

/// It limits only ingress: where Discord, the API server, DNS and proxies are is not known here.
pub(super) fn network_policy(owner: &Owner, from: Option<&[NetworkPolicyPeer]>) -> Value {
    let own_pods = json!({"matchLabels": owner.selector()});
    // No peers means all clients, as in Kubernetes.
    let shards = from.filter(|from| !from.is_empty());
    json!({"spec": {
        "podSelector": own_pods,
        "policyTypes": ["Ingress"],
        "ingress": [
            {"from": shards, "ports": [port(QUEUE_PORT)]},
            // The addresses of the kubelet and Prometheus are not known, and nothing on this port
            // is secret.
            {"ports": [port(ADMIN)]},
            {"from": [{"podSelector": own_pods}], "ports": [port(PEER)]},
        ],
    }})
}

fn port(name: &str) -> Value {
    json!({"port": name, "protocol": "TCP"})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::owner;

    #[test]
    fn without_peers_the_queue_port_is_open_to_all() {
        for from in [None, Some(&[][..])] {
            let policy = network_policy(&owner(), from);
            assert_eq!(policy["spec"]["ingress"][0]["from"], Value::Null);
        }
    }
}
