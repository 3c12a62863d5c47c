//! Namespaces and GatewayQueues.

use std::sync::Once;
use std::time::Duration;

use serde_json::{Value, json};

pub(crate) use crate::common::namespace::{Namespace, feed, kubectl, run, variable};
use crate::common::wait::retry;

/// How long a busy node may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// The label of all namespaces of these tests.
const LABEL: &str = "gateway-queue-chart-test";

/// Creates a namespace that enforces the restricted Pod Security Standard.
pub(crate) fn namespace(name: &str) -> Namespace {
    static EARLIER_RUNS: Once = Once::new();
    EARLIER_RUNS.call_once(|| {
        let delete = format!("delete namespace --wait=false --selector {LABEL}");
        kubectl(&delete).unwrap();
    });
    let labels = json!({LABEL: name, "pod-security.kubernetes.io/enforce": "restricted"});
    // A name of its own, because the namespace of an earlier run may still be terminating.
    let name = format!("gwq-chart-{name}-{}", variable("E2E_STARTED"));
    Namespace::create(name, &labels)
}

/// Applies a GatewayQueue. The API server serves a new CustomResourceDefinition a moment later.
pub(crate) fn apply_queue(namespace: &Namespace, name: &str, spec: &Value) {
    wait_for("a GatewayQueue to be accepted", || {
        namespace.apply_queue(name, spec)
    });
}

/// The spec of a queue that needs no Discord.
pub(crate) fn without_discord() -> Value {
    json!({"maxConcurrency": 2})
}

/// Returns the response of a Service's port to a request through the API server.
pub(crate) fn get_through_service(namespace: &Namespace, service: &str, path: &str) -> String {
    let namespace = namespace.name();
    let path = format!("/api/v1/namespaces/{namespace}/services/{service}/proxy/{path}");
    kubectl(&format!("get --raw {path}")).unwrap()
}

/// Repeats an attempt until it succeeds.
pub(crate) fn wait_for<T>(what: &str, attempt: impl FnMut() -> Result<T, String>) -> T {
    retry(what, PATIENCE, attempt)
}

/// A file or folder of the checkout.
pub(crate) fn checkout(path: &str) -> String {
    format!("{}/../{path}", variable("CARGO_MANIFEST_DIR"))
}
