//! The CustomResourceDefinition, as it is installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

use super::GatewayQueue;

/// The CustomResourceDefinition, as it is in `crds/`, in the chart, and printed by
/// `gateway-queue-operator crd`. Written there by `cargo xtask crd`, and not made
/// while the operator runs: what makes it would be a twentieth of the program.
pub const CRD: &str = include_str!("../../../crds/gatewayqueue.dev_gatewayqueues.yaml");

/// The CustomResourceDefinition of GatewayQueue, from its types.
pub fn crd() -> CustomResourceDefinition {
    GatewayQueue::crd()
}

/// The same as YAML. A test fails when [`CRD`] is not that.
///
/// # Errors
/// Never in practice: the definition is made of plain maps, lists and strings.
pub fn crd_yaml() -> Result<String, serde_saphyr::SerializeError> {
    serde_saphyr::to_string(&crd())
}
