use serde_json::json;

use super::*;

pub(crate) fn owner() -> Owner {
    Owner {
        name: "my-bot".to_owned(),
        namespace: "shop".to_owned(),
        uid: "0001".to_owned(),
    }
}

pub(crate) fn queue(spec: Value) -> GatewayQueue {
    serde_json::from_value(json!({
        "apiVersion": "gatewayqueue.dev/v1alpha1",
        "kind": "GatewayQueue",
        "metadata": {"name": "my-bot", "namespace": "shop", "uid": "0001", "generation": 1},
        "spec": spec,
    }))
    .unwrap()
}

pub(crate) fn defaults() -> QueueDefaults {
    QueueDefaults {
        image: "gateway-queue:1".to_owned(),
        image_pull_policy: None,
        image_pull_secrets: Vec::new(),
    }
}

fn mark(child: &Child) -> &Value {
    &child.manifest["metadata"]["annotations"][APPLIED]
}

#[test]
fn what_a_pod_needs_comes_before_the_pod() {
    let children = children(&queue(json!({})), &defaults(), false).unwrap();
    let kinds: Vec<Kind> = children.iter().map(|child| child.kind).collect();
    assert_eq!(
        kinds,
        [
            Kind::ServiceAccount,
            Kind::Role,
            Kind::RoleBinding,
            Kind::Lease,
            Kind::Service,
            Kind::Deployment,
        ]
    );
}

#[test]
fn a_budget_for_disruptions_is_there_when_pods_stand_by() {
    let has = |replicas| {
        let children =
            children(&queue(json!({ "replicas": replicas })), &defaults(), false).unwrap();
        let mut kinds = children.iter().map(|child| child.kind);
        kinds.any(|kind| kind == Kind::PodDisruptionBudget)
    };
    assert_eq!([0, 1, 2, 3].map(has), [false, false, true, true]);
}

#[test]
fn every_child_is_owned_named_and_labelled() {
    for child in children(&queue(json!({"replicas": 2})), &defaults(), false).unwrap() {
        let metadata = &child.manifest["metadata"];
        assert_eq!(metadata["name"], "my-bot");
        assert_eq!(metadata["namespace"], "shop");
        assert_eq!(metadata["labels"][MANAGED_BY], MANAGER);
        assert_eq!(
            metadata["ownerReferences"],
            json!([{
                "apiVersion": "gatewayqueue.dev/v1alpha1",
                "kind": "GatewayQueue",
                "name": "my-bot",
                "uid": "0001",
                "controller": true,
            }])
        );
        assert_eq!(child.manifest["kind"], child.kind.word());
    }
}

#[test]
fn the_mark_changes_with_the_child_and_only_then() {
    let children = |spec| children(&queue(spec), &defaults(), false).unwrap();
    let (before, same) = (children(json!({})), children(json!({})));
    let after = children(json!({"logLevel": "debug"}));
    assert_eq!(before, same);
    for (before, after) in before.iter().zip(&after) {
        let changed = before.kind == Kind::Deployment;
        assert_eq!(mark(before) != mark(after), changed, "{:?}", before.kind);
    }
}

#[test]
fn an_object_that_no_api_server_stored_is_no_owner() {
    let mut queue = queue(json!({}));
    queue.metadata.uid = None;
    let error = Owner::of(&queue).unwrap_err().to_string();
    assert!(error.contains("metadata.uid"), "{error}");
}

#[test]
fn the_selector_is_the_one_of_the_pods_as_kubectl_takes_it() {
    assert_eq!(
        owner().selector_text(),
        "app.kubernetes.io/component=queue,app.kubernetes.io/instance=my-bot,\
         app.kubernetes.io/name=gateway-queue"
    );
}
