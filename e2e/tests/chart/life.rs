//! Upgrade, rollback, removal and reinstallation. (All tests of the cluster use a release that
//! serves all namespaces.)

use crate::cluster::{Namespace, checkout, wait_for, without_discord};
use crate::definition::{Definition, shared};
use crate::helm::{Helm, WAIT, chart, watch};

const RELEASE: &str = "life";

#[test]
fn with_helm_3_queues_outlive_upgrade_rollback_and_removal() {
    queues_outlive_upgrade_rollback_and_removal(Helm::Three);
}

#[test]
fn with_helm_4_queues_outlive_upgrade_rollback_and_removal() {
    queues_outlive_upgrade_rollback_and_removal(Helm::Four);
}

fn queues_outlive_upgrade_rollback_and_removal(helm: Helm) {
    let definition = Definition::borrow();
    let namespace = &Namespace::new(&helm.name("life"));
    let (chart, watch) = (chart(), watch("", namespace));
    let uid = || namespace.field("gwq/bot", ".metadata.uid").unwrap();

    // Without `--wait`: there is no image of that time, and today's operator lacks rights.
    let first = checkout("e2e/history/gateway-queue-operator-0.1.0.tgz");
    let install = ["install", RELEASE, &first, &watch];
    let install = [&install[..], helm.takes_over()].concat();
    helm.apply(namespace, "", &install).unwrap();
    assert!(!definition.has_replicas());
    namespace.apply_queue("bot", &without_discord());
    let before = uid();

    let upgrade = [&["upgrade", RELEASE, &chart, &watch], &WAIT[..]].concat();
    helm.apply(namespace, "", &upgrade).unwrap();
    assert!(definition.has_replicas(), "the upgrade kept the old CRD");
    namespace.wait_until_ready("bot");

    helm.run(namespace, &["rollback", RELEASE, "1"]).unwrap();
    assert_eq!(definition.chart(), "gateway-queue-operator-0.1.0");
    assert_eq!(before, uid());
    let forth = [&["rollback", RELEASE, "2"], &WAIT[..]].concat();
    helm.run(namespace, &forth).unwrap();
    assert!(definition.has_replicas());

    let uninstall = ["uninstall", RELEASE, "--wait"];
    let output = helm.run(namespace, &uninstall).unwrap();
    for words in [
        "kept due to the resource policy",
        "gatewayqueues.gatewayqueue.dev",
    ] {
        assert!(output.contains(words), "the CRD is not mentioned: {output}");
    }
    // helm 3 does not wait for the pods.
    wait_for("the operator to be deleted", || {
        let name = "deployment/life-gateway-queue-operator";
        match namespace.kubectl(&["get", name, "--ignore-not-found", "--output=name"])? {
            found if found.is_empty() => Ok(()),
            found => Err(found),
        }
    });
    assert_eq!(before, uid());
    let children = ["get", "deployment/bot", "service/bot", "lease/bot"];
    namespace.kubectl(&children).unwrap();

    // The CRD belongs to this release, and needs no flags.
    let install = ["install", RELEASE, &chart, &watch];
    helm.apply(namespace, "", &install).unwrap();
    drop(definition);
    let _shared = shared();
    helm.test(namespace, RELEASE);
    assert_eq!(before, uid());
    namespace.wait_until_ready("bot");
}
