//! What the API server says to a wrong spec.

use serde_json::json;

use crate::kubectl::Namespace;

#[test]
fn a_wrong_spec_is_refused_with_what_is_accepted() {
    let namespace = Namespace::new("refusals");
    let token = json!({"name": "my-bot"});
    for (spec, field, accepted) in [
        (json!({"host": "nowhere"}), "host", "IP address"),
        (json!({"port": 0}), "port", "greater than or equal to 1"),
        (json!({"port": 65536}), "port", "65535"),
        (json!({"interval": "1s"}), "interval", "5s"),
        (json!({"interval": "soon"}), "interval", "5s"),
        (
            json!({"tokenSecretRef": token, "maxConcurrency": 2}),
            "maxConcurrency",
            "tokenSecretRef",
        ),
    ] {
        let refusal = namespace.apply_queue("wrong", &spec).unwrap_err();
        assert!(refusal.contains(field), "{spec}: {refusal}");
        assert!(refusal.contains(accepted), "{spec}: {refusal}");
    }
    let left = namespace
        .kubectl(&["get", "gwq", "--output", "name"])
        .unwrap();
    assert_eq!(left, "");
}
