//! From the first chart to its removal, and back. (That the chart serves all
//! namespaces by default is what all tests of the cluster live by.)

use crate::cluster::{Namespace, wait_for};
use crate::definition::Definition;
use crate::helm::{Helm, chart, first_chart};

const RELEASE: &str = "life";
const OPERATOR: &str = "deployment/life-gateway-queue-operator";

#[test]
fn with_helm_3_queues_outlive_upgrade_rollback_and_removal() {
    queues_outlive_all_that_helm_does(Helm::Three);
}

#[test]
fn with_helm_4_queues_outlive_upgrade_rollback_and_removal() {
    queues_outlive_all_that_helm_does(Helm::Four);
}

fn queues_outlive_all_that_helm_does(helm: Helm) {
    let _definition = Definition::borrow();
    let namespace = &Namespace::new(&format!("life-{}", helm.number()));
    let (old, new) = (first_chart(), chart());

    // Of that time there is no image any more; today's operator has not all of
    // its rights by the first chart, so it is not waited for.
    let watch = format!("--set=watchNamespaces={{{}}}", namespace.name());
    let first = ["install", RELEASE, &old, &watch];
    helm.apply(namespace, &[&first[..], helm.takes_over()].concat())
        .unwrap();
    assert!(!Definition::has_replicas());
    namespace.apply_queue("bot");
    let uid = uid(namespace);

    let wait = ["--wait", "--timeout=5m"];
    let upgrade = [&["upgrade", RELEASE, &new, &watch], &wait[..]].concat();
    helm.apply(namespace, &upgrade).unwrap();
    assert!(
        Definition::has_replicas(),
        "the upgrade brought no new definition"
    );
    helm.test(namespace, RELEASE);
    namespace.wait_until_ready("bot");

    helm.run(namespace, &["rollback", RELEASE, "1"]).unwrap();
    assert_eq!(
        Definition::chart().as_deref(),
        Some("gateway-queue-operator-0.1.0")
    );
    assert_eq!(uid, self::uid(namespace));
    helm.run(
        namespace,
        &[&["rollback", RELEASE, "2"], &wait[..]].concat(),
    )
    .unwrap();
    assert!(Definition::has_replicas());
    helm.test(namespace, RELEASE);

    let said = helm
        .run(namespace, &["uninstall", RELEASE, "--wait"])
        .unwrap();
    for words in [
        "kept due to the resource policy",
        "gatewayqueues.gatewayqueue.dev",
    ] {
        assert!(said.contains(words), "helm does not say what stays: {said}");
    }
    gone(namespace, OPERATOR);
    // The queue goes on without an operator.
    assert_eq!(uid, self::uid(namespace));
    namespace
        .kubectl(&["get", "deployment/bot", "service/bot", "lease/bot"])
        .unwrap();

    let again = [&["install", RELEASE, &new, &watch], &wait[..]].concat();
    helm.apply(namespace, &again).unwrap();
    helm.test(namespace, RELEASE);
    assert_eq!(uid, self::uid(namespace));
    namespace.wait_until_ready("bot");
    helm.run(namespace, &["uninstall", RELEASE, "--wait"])
        .unwrap();
}

fn uid(namespace: &Namespace) -> String {
    let path = "jsonpath={.metadata.uid}";
    namespace
        .kubectl(&["get", "gwq", "bot", "--output", path])
        .unwrap()
}

/// Everything of the release goes; the last of it a moment later.
fn gone(namespace: &Namespace, what: &str) {
    wait_for("the operator to be gone", || {
        let get = ["get", what, "--ignore-not-found", "--output=name"];
        match namespace.kubectl(&get)?.trim() {
            "" => Ok(()),
            there => Err(there.to_owned()),
        }
    });
}
