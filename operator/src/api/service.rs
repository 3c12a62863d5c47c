//! Settings of the queue's Service.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::names;
use super::schema;

/// Settings of the queue's Service.
#[derive(KubeSchema, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("self.type != 'ClusterIP' || self.port != 9090").message(
        "service.port must not be 9090 if service.type is ClusterIP, because port 9090 of such a Service is the admin port: use another port"
    )
)]
pub struct ServiceSettings {
    /// The type of the Service, which determines where the queue can be reached from. Only with
    /// ClusterIP, it also has the admin port (9090). Defaults to ClusterIP.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,
    /// The port that clients use, 1 to 65535, and not 9090 if the type is ClusterIP. Defaults to
    /// 80.
    #[serde(default = "default_service_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Annotations of the Service. Keys under gatewayqueue.dev/ are rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::annotations")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Labels of the Service. Keys under gatewayqueue.dev/ and the well-known labels that the
    /// operator sets are rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::labels")]
    pub labels: Option<BTreeMap<String, String>>,
}

names! {
    /// The type of the Service.
    #[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[allow(missing_docs, reason = "the names of Kubernetes")]
    pub enum ServiceType {
        #[default]
        ClusterIP,
        NodePort,
        LoadBalancer,
    }
}

impl Default for ServiceSettings {
    fn default() -> Self {
        Self {
            type_: ServiceType::default(),
            port: default_service_port(),
            annotations: None,
            labels: None,
        }
    }
}

fn default_service_port() -> i32 {
    80
}
