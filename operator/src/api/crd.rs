//! The CustomResourceDefinition, as it is installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

use super::GatewayQueue;

/// The CustomResourceDefinition of GatewayQueue.
pub fn crd() -> CustomResourceDefinition {
    GatewayQueue::crd()
}

/// The CustomResourceDefinition as the YAML that is in `crds/` and in the chart.
///
/// # Errors
/// Never in practice: the definition is made of plain maps, lists and strings.
pub fn crd_yaml() -> Result<String, serde_saphyr::SerializeError> {
    serde_saphyr::to_string(&crd())
}
