use serde_json::json;

use super::*;
use crate::testing::{defaults, owner, queue};

mod golden;

fn hash(child: &Child) -> &Value {
    &child.manifest["metadata"]["annotations"][APPLIED]
}

#[test]
fn children_are_ordered_so_that_pods_come_last() {
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
fn a_queue_with_several_pods_has_a_disruption_budget() {
    let has = |replicas| {
        let children =
            children(&queue(json!({ "replicas": replicas })), &defaults(), false).unwrap();
        let mut kinds = children.iter().map(|child| child.kind);
        kinds.any(|kind| kind == Kind::PodDisruptionBudget)
    };
    assert_eq!([0, 1, 2, 3].map(has), [false, false, true, true]);
}

#[test]
fn every_child_has_owner_name_and_labels() {
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
        assert_eq!(child.manifest["kind"], child.kind.as_str());
    }
}

#[test]
fn the_hash_changes_with_the_child_and_only_then() {
    let children = |spec| children(&queue(spec), &defaults(), false).unwrap();
    let (before, same) = (children(json!({})), children(json!({})));
    let after = children(json!({"logLevel": "debug"}));
    assert_eq!(before, same);
    for (before, after) in before.iter().zip(&after) {
        let changed = before.kind == Kind::Deployment;
        assert_eq!(hash(before) != hash(after), changed, "{:?}", before.kind);
    }
}

#[test]
fn an_object_without_a_uid_is_no_owner() {
    let mut queue = queue(json!({}));
    queue.metadata.uid = None;
    let error = Owner::of(&queue).unwrap_err().to_string();
    assert!(error.contains("metadata.uid"), "{error}");
}

#[test]
fn the_selector_text_is_that_of_the_pods() {
    assert_eq!(
        owner().selector_text(),
        "app.kubernetes.io/component=queue,app.kubernetes.io/instance=my-bot,\
         app.kubernetes.io/name=gateway-queue"
    );
}

#[test]
fn empty_fields_give_the_same_children_as_absent_ones() {
    let empty = json!({
        "replicas": 2,
        "imagePullSecrets": [],
        "service": {"labels": {}, "annotations": {}},
        "pod": {
            "labels": {}, "annotations": {}, "nodeSelector": {}, "tolerations": [],
            "resources": {"limits": {}, "requests": {}}, "topologySpreadConstraints": [],
        },
        "networkPolicy": {"enabled": true, "from": []},
    });
    let absent = json!({"replicas": 2, "networkPolicy": {"enabled": true}});
    let of = |spec| children(&queue(spec), &defaults(), false).unwrap();
    assert_eq!(of(empty), of(absent));
}

/// The paths of the empty lists and of the nulls in a manifest.
fn empty_in(path: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Null => found.push(path.to_owned()),
        Value::Array(items) if items.is_empty() => found.push(path.to_owned()),
        Value::Array(items) => items.iter().for_each(|item| empty_in(path, item, found)),
        Value::Object(fields) => {
            for (name, value) in fields {
                empty_in(&format!("{path}.{name}"), value, found);
            }
        }
        _ => {}
    }
}

#[test]
fn no_child_has_an_empty_list_and_an_empty_selector_still_selects_everything() {
    let everything = json!({"labelSelector": {}, "topologyKey": "zone", "namespaces": []});
    let spec = json!({
        "replicas": 2,
        "pod": {
            "affinity": {
                "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []},
                "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [everything]},
            },
            "topologySpreadConstraints": [{
                "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {}, "matchExpressions": []}, "matchLabelKeys": [],
            }],
        },
        "networkPolicy": {"enabled": true, "from": [{"podSelector": {}}]},
    });
    let children = children(&queue(spec), &defaults(), false).unwrap();
    let mut found = Vec::new();
    for child in &children {
        empty_in(child.kind.as_str(), &child.manifest, &mut found);
    }
    assert_eq!(found, Vec::<String>::new());
    let at = |kind, pointer: &str| {
        let child = children.iter().find(|child| child.kind == kind).unwrap();
        child.manifest.pointer(pointer).cloned().unwrap_or_default()
    };
    let pod = |pointer: &str| at(Kind::Deployment, &format!("/spec/template/spec/{pointer}"));
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    for selector in [
        pod(&format!("affinity/podAffinity/{required}/0/labelSelector")),
        pod("topologySpreadConstraints/0/labelSelector"),
        at(Kind::NetworkPolicy, "/spec/ingress/0/from/0/podSelector"),
    ] {
        assert_eq!(selector, json!({}));
    }
}

#[test]
fn reserved_keys_of_the_spec_are_ignored() {
    let theirs = json!({
        TOKEN: "theirs", "sub.gatewayqueue.dev/a": "theirs", "app.kubernetes.io/instance": "theirs",
        "team": "bots",
    });
    let spec = json!({
        "service": {"labels": theirs, "annotations": theirs},
        "pod": {"labels": theirs, "annotations": theirs},
    });
    for child in children(&queue(spec), &defaults(), false).unwrap() {
        let text = child.manifest.to_string();
        for key in [
            r#""gatewayqueue.dev/token-ref-hash":"theirs""#,
            "sub.gatewayqueue.dev",
        ] {
            assert!(!text.contains(key), "{text}");
        }
        let labels = &child.manifest["metadata"]["labels"];
        assert_eq!(labels[INSTANCE], "my-bot");
    }
}
