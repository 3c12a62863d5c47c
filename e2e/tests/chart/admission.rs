//! The policy that keeps the operator from the Leases of others.

use serde_json::{Value, json};

use crate::cluster::{Namespace, wait_for};
use crate::definition::Shared;
use crate::helm::Helm;

const RELEASE: &str = "limited";

/// A Lease, with these labels and owners.
fn lease(name: &str, labels: Value, owners: Value) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": name, "labels": labels, "ownerReferences": owners},
        "spec": {"holderIdentity": "somebody"},
    })
}

#[test]
fn with_the_policy_the_operator_writes_leases_of_queues_and_of_its_election_only() {
    let _shared = Shared::hold();
    let namespace = &Namespace::new("limited");
    let limits = "--set=admissionPolicy.enabled=true";
    Helm::Four.install(namespace, RELEASE, &[limits]).unwrap();
    let account = format!(
        "--as=system:serviceaccount:{}:{RELEASE}-gateway-queue-operator",
        namespace.name()
    );
    let create = |object: &Value| {
        let create = ["create", "--dry-run=server", &account, "--filename", "-"];
        namespace.feed(&create, &object.to_string())
    };
    let none = json!([]);
    let labelled = json!({"gatewayqueue.dev/name": "bot"});
    let theirs = lease("theirs", json!({}), none.clone());
    // A policy counts a moment after it was made.
    wait_for("the policy", || match create(&theirs) {
        Err(error) if error.contains("may only write Leases of GatewayQueues") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    create(&lease("ours", labelled.clone(), none.clone())).unwrap();

    // What is there is not claimed by a label either, nor deleted.
    namespace
        .feed(&["create", "--filename", "-"], &theirs.to_string())
        .unwrap();
    let patch = json!({"metadata": {"labels": labelled}}).to_string();
    let claim = [
        "patch",
        "lease",
        "theirs",
        "--type=merge",
        "--patch",
        &patch,
        &account,
    ];
    let delete = ["delete", "lease", "theirs", "--dry-run=server", &account];
    for denied in [&claim[..], &delete[..]] {
        let error = namespace.kubectl(denied);
        let error = error.expect_err("the operator wrote the Lease of another client");
        assert!(error.contains("may only write Leases"), "{error}");
    }

    // The operator does all that it has to: its election, and a whole queue.
    namespace.apply_queue("bot");
    namespace.wait_until_ready("bot");
    let unlabel = ["label", "lease", "bot", "gatewayqueue.dev/name-"];
    namespace.kubectl(&unlabel).unwrap();
    wait_for("the label to be put back", || {
        let path = "--output=jsonpath={.metadata.labels.gatewayqueue\\.dev/name}";
        match namespace.kubectl(&["get", "lease", "bot", path])?.as_str() {
            "bot" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
    Helm::Four
        .run(namespace, &["uninstall", RELEASE, "--wait"])
        .unwrap();
}
