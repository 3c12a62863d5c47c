//! A namespace that enforces the restricted Pod Security Standard.

use serde_json::{Value, json};

use crate::api::{Api, DEPLOYMENT};
use crate::kubectl::{Namespace, OPERATOR};

const ENFORCE: &str = "pod-security.kubernetes.io/enforce=restricted";

#[test]
fn queues_run_where_the_restricted_standard_is_enforced() {
    let namespace = Namespace::new("restricted");
    let label = ["label", "namespace", namespace.name(), ENFORCE];
    namespace.kubectl(&label).unwrap();
    // The standard is enforced.
    let refusal = namespace
        .apply(&pod(&json!({"hostNetwork": true})))
        .unwrap_err();
    assert!(refusal.contains("restricted:latest"), "{refusal}");

    for (name, spec) in [
        ("defaults", json!({})),
        ("low-port", json!({"port": 80})),
        ("pair", json!({"replicas": 2, "maxConcurrency": 2})),
    ] {
        namespace.apply_queue(name, &spec).unwrap();
    }
    let queues = ["gwq/defaults", "gwq/low-port", "gwq/pair"];
    let wait = ["wait", "--for=condition=Ready", "--timeout=120s"];
    namespace.kubectl(&[&wait[..], &queues].concat()).unwrap();
}

#[test]
fn the_operator_meets_the_restricted_standard() {
    let namespace = Namespace::new("restricted-operator");
    let label = ["label", "namespace", namespace.name(), ENFORCE];
    namespace.kubectl(&label).unwrap();
    let api = Api::new(&namespace);
    let operator = api.get(DEPLOYMENT, OPERATOR.0, OPERATOR.1).unwrap();
    let mut spec = operator["spec"]["template"]["spec"].clone();
    // The operator's ServiceAccount is in another namespace.
    for account in ["serviceAccountName", "serviceAccount"] {
        spec.as_object_mut().unwrap().remove(account);
    }
    let dry = ["apply", "--dry-run=server", "--filename", "-"];
    let output = namespace.feed(&dry, &pod(&spec)).unwrap();
    assert!(output.contains("pod/one created"), "{output}");
}

fn pod(spec: &Value) -> String {
    let mut spec = spec.clone();
    if spec["containers"].is_null() {
        spec["containers"] = json!([{"name": "one", "image": "none"}]);
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": spec})
        .to_string()
}
