//! The policy that limits the Leases that an operator may write.

use serde_json::{Value, json};

use crate::cluster::{apply_queue, namespace, wait_for, without_discord};
use crate::definition::shared;
use crate::helm::Helm;

const RELEASE: &str = "limited";
const DENIED: &str = "may only write the Leases of GatewayQueues";

#[test]
fn with_the_policy_the_operator_writes_only_the_leases_of_queues_and_of_its_election() {
    let _shared = shared();
    let namespace = &namespace("limited");
    let policy = "--set=admissionPolicy.enabled=true";
    Helm::Four.install(namespace, RELEASE, policy);
    let account = format!(
        "--as=system:serviceaccount:{}:{RELEASE}-gateway-queue-operator",
        namespace.name()
    );
    let lease = |name: &str, labels: &Value| {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "labels": labels},
            "spec": {"holderIdentity": "another-client"},
        });
        lease.to_string()
    };
    let create = |object: &str| {
        let create = format!("create --dry-run=server {account} --filename -");
        namespace.feed(&create, object)
    };
    let labels = json!({"gatewayqueue.dev/name": "bot"});
    let theirs = lease("theirs", &json!({}));
    // A new policy takes effect a moment later.
    wait_for("the policy", || match create(&theirs) {
        Err(error) if error.contains(DENIED) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    create(&lease("ours", &labels)).unwrap();

    // An existing Lease can be neither claimed by the label nor deleted.
    namespace.feed("create --filename -", &theirs).unwrap();
    for request in [
        "label lease theirs gatewayqueue.dev/name=bot",
        "delete lease theirs --dry-run=server",
    ] {
        let result = namespace.kubectl(&format!("{request} {account}"));
        let error = result.expect_err("the operator wrote the Lease of another client");
        assert!(error.contains(DENIED), "{error}");
    }

    // The election and a queue work.
    apply_queue(namespace, "bot", &without_discord());
    namespace.wait_until_ready("bot");
    let unlabel = "label lease bot-queue gatewayqueue.dev/name-";
    namespace.kubectl(unlabel).unwrap();
    wait_for("the label to be restored", || {
        let label = namespace.field(
            "lease/bot-queue",
            ".metadata.labels.gatewayqueue\\.dev/name",
        );
        if label == "bot" { Ok(()) } else { Err(label) }
    });
    // The policy belongs to no namespace.
    let uninstall = format!("uninstall {RELEASE}");
    Helm::Four.run(namespace, &uninstall).unwrap();
}
