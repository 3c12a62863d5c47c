//! Settings of the queue's Service.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::names;
use super::schema;

/// Settings of the queue's Service.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ServiceSettings {
    /// The type of the Service, which determines where the queue can be reached from. Defaults
    /// to ClusterIP.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,
    /// The port that clients use, 1 to 65535. Defaults to 80.
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
