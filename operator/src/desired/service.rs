//! The Service that all shards use.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Owner;
use super::deployment::QUEUE_PORT;
use crate::api::ServiceSettings;

pub(super) fn service(owner: &Owner, settings: &ServiceSettings) -> Service {
    Service {
        metadata: owner.metadata_with(settings.labels.as_ref(), settings.annotations.as_ref()),
        spec: Some(ServiceSpec {
            type_: Some(settings.type_.as_str().to_owned()),
            selector: Some(owner.selector()),
            ports: Some(vec![ServicePort {
                name: Some(QUEUE_PORT.to_owned()),
                port: settings.port,
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::String(QUEUE_PORT.to_owned())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::owner;

    fn settings(json: serde_json::Value) -> ServiceSettings {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn clients_use_port_80_unless_the_spec_sets_another() {
        let spec = service(&owner(), &settings(serde_json::json!({})))
            .spec
            .unwrap();
        assert_eq!(spec.type_.as_deref(), Some("ClusterIP"));
        assert_eq!(spec.ports.unwrap()[0].port, 80);

        let asked = settings(serde_json::json!({"type": "NodePort", "port": 8080}));
        let spec = service(&owner(), &asked).spec.unwrap();
        assert_eq!(spec.type_.as_deref(), Some("NodePort"));
        assert_eq!(spec.ports.unwrap()[0].port, 8080);
    }

    #[test]
    fn the_service_selects_pods_by_labels_that_a_spec_cannot_change() {
        let asked = settings(serde_json::json!({
            "labels": {"team": "bots", "app.kubernetes.io/name": "mine"},
            "annotations": {"note": "hello"},
        }));
        let service = service(&owner(), &asked);
        let labels = service.metadata.labels.unwrap();
        assert_eq!(labels["team"], "bots");
        assert_eq!(labels["app.kubernetes.io/name"], "gateway-queue");
        assert_eq!(service.metadata.annotations.unwrap()["note"], "hello");
        assert_eq!(service.spec.unwrap().selector, Some(owner().selector()));
    }
}
