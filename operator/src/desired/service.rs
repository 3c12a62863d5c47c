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
