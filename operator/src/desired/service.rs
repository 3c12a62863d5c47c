//! The Service that all shards use.

use serde_json::{Value, json};

use super::Owner;
use super::deployment::{ADMIN, QUEUE_PORT};
use crate::api::{ADMIN_PORT, ServiceSettings, ServiceType};

pub(super) fn service(owner: &Owner, settings: &ServiceSettings) -> Value {
    let mut queue = port(QUEUE_PORT, settings.port, &settings.app_protocol);
    queue["nodePort"] = json!(settings.node_port);
    let mut ports = vec![queue];
    // A Service of another type would make the status page reachable from outside the cluster.
    if settings.type_ == ServiceType::ClusterIP {
        ports.push(port(ADMIN, ADMIN_PORT, "http"));
    }
    json!({"spec": {
        "type": settings.type_.as_str(),
        "selector": owner.selector(),
        "ports": ports,
        "externalTrafficPolicy": settings.external_traffic_policy,
        "loadBalancerClass": settings.load_balancer_class,
        "loadBalancerSourceRanges": settings.load_balancer_source_ranges,
        "ipFamilyPolicy": settings.ip_family_policy,
        "ipFamilies": settings.ip_families,
    }})
}

fn port(name: &str, port: i32, app_protocol: &str) -> Value {
    json!({
        "name": name,
        "port": port,
        "protocol": "TCP",
        "targetPort": name,
        "appProtocol": app_protocol,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::owner;

    #[test]
    fn only_a_service_inside_the_cluster_has_the_admin_port() {
        for (type_, expected) in [
            (ServiceType::ClusterIP, &["queue", "admin"][..]),
            (ServiceType::NodePort, &["queue"]),
            (ServiceType::LoadBalancer, &["queue"]),
        ] {
            let settings = ServiceSettings {
                type_,
                ..ServiceSettings::default()
            };
            let service = service(&owner(), &settings);
            let ports = service["spec"]["ports"].as_array().unwrap().iter();
            let names: Vec<_> = ports.map(|port| port["name"].as_str().unwrap()).collect();
            assert_eq!(names, expected, "{type_:?}");
        }
    }
}
