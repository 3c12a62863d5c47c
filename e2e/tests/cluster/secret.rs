//! A token that is not there yet.

use serde_json::json;

use crate::kubectl::{Namespace, discord_api};

#[test]
fn a_missing_secret_is_named_and_the_queue_grants_once_it_is_there() {
    let namespace = Namespace::new("secret");
    let spec = json!({
        "tokenSecretRef": {"name": "late", "key": "bot-token"},
        "discordApi": discord_api(),
    });
    namespace.apply_queue("my-bot", &spec).unwrap();
    let missing = r#"--for=jsonpath={.status.conditions[?(@.type=="Ready")].reason}=TokenMissing"#;
    namespace
        .kubectl(&["wait", missing, "gwq/my-bot", "--timeout=60s"])
        .unwrap();
    let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")].message}"#;
    let message = namespace
        .kubectl(&["get", "gwq", "my-bot", "--output", path])
        .unwrap();
    assert!(
        message.contains("late") && message.contains("bot-token"),
        "{message}"
    );

    let token = format!("--from-literal=bot-token={}", crate::kubectl::TOKEN);
    namespace
        .kubectl(&["create", "secret", "generic", "late", &token])
        .unwrap();
    // The kubelet takes up to a minute and a half to bring it into the pod.
    let ready = [
        "wait",
        "--for=condition=Ready",
        "gwq/my-bot",
        "--timeout=150s",
    ];
    namespace.kubectl(&ready).unwrap();
    let restarts = "jsonpath={.items[*].status.containerStatuses[*].restartCount}";
    let pods = ["get", "pods", "--output", restarts];
    assert_eq!(namespace.kubectl(&pods).unwrap(), "0");
}
