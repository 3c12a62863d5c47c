//! Upgrade, rollback, removal and reinstallation. (All tests of the cluster use a release that
//! serves all namespaces.)

use crate::cluster::{apply_queue, checkout, namespace, wait_for, without_discord};
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
    let namespace = &namespace(&helm.name("life"));
    let (chart, watch) = (chart(), watch("", namespace));
    let uid = || namespace.field("gwq/bot", ".metadata.uid");

    // Without `--wait`: there is no image of that time, and today's operator lacks rights.
    let first = checkout("e2e/history/gateway-queue-operator-0.1.0.tgz");
    let install = format!("install {RELEASE} {first} {watch} {}", helm.takes_over());
    helm.apply(namespace, "", &install).unwrap();
    assert!(!definition.has_replicas());
    apply_queue(namespace, "bot", &without_discord());
    let before = uid();

    let upgrade = format!("upgrade {RELEASE} {chart} {watch} {WAIT}");
    helm.apply(namespace, "", &upgrade).unwrap();
    assert!(definition.has_replicas(), "the upgrade kept the old CRD");
    namespace.wait_until_ready("bot");

    let rollback = format!("rollback {RELEASE}");
    helm.run(namespace, &format!("{rollback} 1")).unwrap();
    assert_eq!(definition.chart(), "gateway-queue-operator-0.1.0");
    assert_eq!(before, uid());
    let forth = format!("{rollback} 2 {WAIT}");
    helm.run(namespace, &forth).unwrap();
    assert!(definition.has_replicas());

    let uninstall = format!("uninstall {RELEASE} --wait");
    let output = helm.run(namespace, &uninstall).unwrap();
    for words in [
        "kept due to the resource policy",
        "gatewayqueues.gatewayqueue.dev",
    ] {
        assert!(output.contains(words), "the CRD is not mentioned: {output}");
    }
    // helm 3 does not wait for the pods.
    wait_for("the operator to be deleted", || {
        let get = "get deployment/life-gateway-queue-operator --ignore-not-found --output=name";
        match namespace.kubectl(get)? {
            found if found.is_empty() => Ok(()),
            found => Err(found),
        }
    });
    assert_eq!(before, uid());
    let children = "get deployment/bot-queue service/bot lease/bot-queue";
    namespace.kubectl(children).unwrap();

    // The CRD belongs to this release, and needs no flags.
    let install = format!("install {RELEASE} {chart} {watch}");
    helm.apply(namespace, "", &install).unwrap();
    drop(definition);
    let _shared = shared();
    helm.test(namespace, RELEASE);
    assert_eq!(before, uid());
    namespace.wait_until_ready("bot");
}
