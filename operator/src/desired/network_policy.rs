//! The NetworkPolicy.

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Owner;
use super::deployment::{ADMIN, PEER, QUEUE_PORT};

/// It limits only ingress: where Discord, the API server, DNS and proxies are is not known here.
pub(super) fn network_policy(owner: &Owner, from: Option<&[NetworkPolicyPeer]>) -> NetworkPolicy {
    let pods = || LabelSelector {
        match_labels: Some(owner.selector()),
        ..LabelSelector::default()
    };
    let its_own = NetworkPolicyPeer {
        pod_selector: Some(pods()),
        ..NetworkPolicyPeer::default()
    };
    // No peers means all clients, as in Kubernetes.
    let shards = from.filter(|from| !from.is_empty()).map(<[_]>::to_vec);
    NetworkPolicy {
        metadata: owner.metadata(),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(pods()),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![
                rule(QUEUE_PORT, shards),
                // The addresses of the kubelet and Prometheus are not known, and nothing on
                // this port is secret.
                rule(ADMIN, None),
                rule(PEER, Some(vec![its_own])),
            ]),
            egress: None,
        }),
    }
}

fn rule(port: &str, from: Option<Vec<NetworkPolicyPeer>>) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        from,
        ports: Some(vec![NetworkPolicyPort {
            port: Some(IntOrString::String(port.to_owned())),
            protocol: Some("TCP".to_owned()),
            end_port: None,
        }]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::owner;

    #[test]
    fn without_peers_the_queue_port_is_open_to_all() {
        for from in [None, Some(&[][..])] {
            let ingress = network_policy(&owner(), from).spec.unwrap().ingress;
            assert_eq!(ingress.unwrap()[0], rule(QUEUE_PORT, None));
        }
    }
}
