//! The CustomResourceDefinition.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

use super::GatewayQueue;

/// The CustomResourceDefinition as YAML, as in `crds/` and the chart. `cargo xtask crd` generates
/// it; generating it at run time would make the program 5 % larger.
pub const CRD: &str = include_str!("../../../crds/gatewayqueue.dev_gatewayqueues.yaml");

/// The CustomResourceDefinition of GatewayQueue, from its types.
pub fn crd() -> CustomResourceDefinition {
    GatewayQueue::crd()
}

/// The same as YAML. A test compares it with [`CRD`].
///
/// # Errors
/// Never in practice: it consists of plain maps, lists and strings.
pub fn crd_yaml() -> Result<String, serde_saphyr::SerializeError> {
    serde_saphyr::to_string(&crd())
}
