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
    use serde_json::json;

    use super::*;
    use crate::testing::owner;

    /// The peers of each port.
    fn rules(from: Option<&[NetworkPolicyPeer]>) -> serde_json::Value {
        let policy = serde_json::to_value(network_policy(&owner(), from)).unwrap();
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress"]));
        let rules = policy["spec"]["ingress"].as_array().unwrap().iter();
        let rules = rules.map(|rule| {
            let port = rule["ports"][0]["port"].as_str().unwrap().to_owned();
            (port, rule["from"].clone())
        });
        serde_json::Value::Object(rules.collect())
    }

    #[test]
    fn the_queue_port_is_open_to_the_peers_of_the_spec_and_the_peer_port_to_the_queue() {
        let bots: NetworkPolicyPeer =
            serde_json::from_value(json!({"namespaceSelector": {"matchLabels": {"team": "bots"}}}))
                .unwrap();
        let rules = rules(Some(std::slice::from_ref(&bots)));
        assert_eq!(rules["queue"], json!([bots]));
        assert_eq!(rules["admin"], json!(null));
        let its_own = json!([{"podSelector": {"matchLabels": owner().selector()}}]);
        assert_eq!(rules["peer"], its_own);
    }

    #[test]
    fn without_peers_the_queue_port_is_open_to_all() {
        assert_eq!(rules(None)["queue"], json!(null));
        assert_eq!(rules(Some(&[]))["queue"], json!(null));
    }
}
