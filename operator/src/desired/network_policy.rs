//! The NetworkPolicy.

use std::collections::BTreeSet;

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use serde_json::{Value, json};

use super::Owner;
use crate::api::{ADMIN_PORT, PEER_PORT};

/// It limits only ingress: where Discord, the API server, DNS and proxies are is not known here.
///
/// Ports are numbers, because some networks resolve the names of ports wrongly. `queue_ports` are
/// those of all pods: while the port changes, pods with the old one still have clients.
pub(super) fn network_policy(
    owner: &Owner,
    from: Option<&[NetworkPolicyPeer]>,
    queue_ports: &BTreeSet<i32>,
) -> Value {
    let queue_ports: Vec<Value> = queue_ports.iter().copied().map(port).collect();
    let own_pods = json!({"matchLabels": owner.selector()});
    // No peers means all clients, as in Kubernetes.
    let shards = from.filter(|from| !from.is_empty());
    json!({"spec": {
        "podSelector": own_pods,
        "policyTypes": ["Ingress"],
        "ingress": [
            {"from": shards, "ports": queue_ports},
            // The addresses of the kubelet and Prometheus are not known, and nothing on this port
            // is secret.
            {"ports": [port(ADMIN_PORT)]},
            {"from": [{"podSelector": own_pods}], "ports": [port(PEER_PORT)]},
        ],
    }})
}

fn port(number: i32) -> Value {
    json!({"port": number, "protocol": "TCP"})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::owner;

    #[test]
    fn the_queue_ports_of_all_pods_are_open() {
        let policy = network_policy(&owner(), None, &[5000, 6000].into());
        let ports = &policy["spec"]["ingress"][0]["ports"];
        assert_eq!(*ports, json!([port(5000), port(6000)]));
    }

    #[test]
    fn without_peers_the_queue_port_is_open_to_all() {
        for from in [None, Some(&[][..])] {
            let policy = network_policy(&owner(), from, &[5000].into());
            assert_eq!(policy["spec"]["ingress"][0]["from"], Value::Null);
        }
    }
}
