//! A namespace that enforces the restricted Pod Security Standard.

use serde_json::json;

use crate::kubectl::Namespace;

const ENFORCE: &str = "pod-security.kubernetes.io/enforce=restricted";

#[test]
fn queues_run_where_the_restricted_standard_is_enforced() {
    let namespace = Namespace::new("restricted");
    let label = format!("label namespace {} {ENFORCE}", namespace.name());
    namespace.kubectl(&label).unwrap();
    // The standard is enforced.
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "privileged"},
        "spec": {"hostNetwork": true, "containers": [{"name": "one", "image": "none"}]},
    });
    let refusal = namespace.apply(&pod.to_string()).unwrap_err();
    assert!(refusal.contains("restricted:latest"), "{refusal}");

    for (name, spec) in [
        ("defaults", json!({})),
        ("low-port", json!({"port": 80})),
        ("pair", json!({"replicas": 2, "maxConcurrency": 2})),
    ] {
        namespace.apply_queue(name, &spec).unwrap();
    }
    namespace.wait_until_ready("defaults low-port pair");
}
