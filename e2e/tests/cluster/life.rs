//! From `kubectl apply` to `kubectl delete`.

use std::time::Duration;

use serde_json::json;

use crate::forward::Forward;
use crate::kubectl::{Namespace, discord_api, wait_for};

const GRANT: &str = r#"{"message": "You're free to connect now! :)"}"#;

/// The queue's own start guard and pacing take seconds; the rest is a node that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_queue_is_applied_called_and_deleted() {
    let namespace = Namespace::new("life");
    namespace.create_secret("my-bot");
    let spec = json!({
        "tokenSecretRef": {"name": "my-bot"},
        "discordApi": discord_api(),
        "port": 5000,
        "replicas": 2,
        "networkPolicy": {"enabled": true},
    });
    namespace.apply_queue("my-bot", &spec).unwrap();
    let wait = [
        "wait",
        "--for=condition=Ready",
        "gwq/my-bot",
        "--timeout=60s",
    ];
    namespace.kubectl(&wait).unwrap();

    let table = namespace.kubectl(&["get", "gwq"]).unwrap();
    for word in ["READY", "URL", "True", "http://my-bot.gwq-e2e-life.svc"] {
        assert!(table.contains(word), "{word} in {table}");
    }

    // As the original's own client: any method, any path, any body.
    let forward = Forward::to(&namespace, "my-bot");
    let request = "POST /any/path?shard=3 HTTP/1.1\r\nhost: q\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx";
    let mut times = Vec::new();
    for _ in 0..2 {
        let (answer, at) = forward.exchange(request);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{GRANT}")), "{answer}");
        times.push(at);
    }
    let apart = times[1] - times[0];
    assert!(apart > Duration::from_millis(5100), "{apart:?}");
    drop(forward);

    let children = namespace.children();
    for child in [
        "deployment.apps/my-bot",
        "service/my-bot",
        "serviceaccount/my-bot",
        "lease.coordination.k8s.io/my-bot",
        "role.rbac.authorization.k8s.io/my-bot",
        "rolebinding.rbac.authorization.k8s.io/my-bot",
        "poddisruptionbudget.policy/my-bot",
        "networkpolicy.networking.k8s.io/my-bot",
    ] {
        assert!(
            children.lines().any(|line| line == child),
            "{child} in {children}"
        );
    }
    for child in children.lines().filter(|line| line.ends_with("/my-bot")) {
        is_not_created_again(&namespace, child);
    }
    namespace.kubectl(&["delete", "gwq", "my-bot"]).unwrap();
    // What other tests left is collected before.
    wait_for("everything that it made to be gone", PATIENCE * 3, || {
        namespace.children().is_empty().then_some(())
    });
    // What is the user's stays.
    namespace.kubectl(&["get", "secret", "my-bot"]).unwrap();
}

/// The operator creates a child by an apply that names the version of no object:
/// the API server must refuse that for one that is there.
fn is_not_created_again(namespace: &Namespace, child: &str) {
    let there = namespace
        .kubectl(&["get", child, "--output", "json"])
        .unwrap();
    let there: serde_json::Value = serde_json::from_str(&there).unwrap();
    let create = json!({
        "apiVersion": there["apiVersion"],
        "kind": there["kind"],
        "metadata": {"name": "my-bot", "resourceVersion": "1", "labels": {"by": "a-stranger"}},
    });
    let apply = [
        "apply",
        "--server-side",
        "--field-manager=stranger",
        "--filename",
        "-",
    ];
    let refused = namespace.feed(&apply, &create.to_string()).unwrap_err();
    assert!(
        refused.contains("the object has been modified"),
        "{child}: {refused}"
    );
}

#[test]
fn a_queue_without_a_token_is_ready_with_its_own_concurrency() {
    let namespace = Namespace::new("no-token");
    namespace
        .apply_queue("plain", &json!({"maxConcurrency": 16}))
        .unwrap();
    let wait = [
        "wait",
        "--for=condition=Ready",
        "gwq/plain",
        "--timeout=60s",
    ];
    namespace.kubectl(&wait).unwrap();
    let concurrency = wait_for("the status", PATIENCE, || {
        let path = "jsonpath={.status.maxConcurrency}";
        let said = namespace
            .kubectl(&["get", "gwq", "plain", "--output", path])
            .unwrap();
        (!said.is_empty()).then_some(said)
    });
    assert_eq!(concurrency, "16");
}
