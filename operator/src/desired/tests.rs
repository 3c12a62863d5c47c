use super::*;
use crate::testing::{defaults, queue};

mod golden;

fn children_of(spec: Value) -> Vec<Child> {
    children(&queue(spec), &defaults(), false).unwrap()
}

fn hash(child: &Child) -> &Value {
    &child.manifest["metadata"]["annotations"][APPLIED]
}

#[test]
fn the_hash_changes_with_the_child_and_only_then() {
    let (before, same) = (children_of(json!({})), children_of(json!({})));
    let after = children_of(json!({"logLevel": "debug"}));
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
    assert_eq!(children_of(empty), children_of(absent));
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
    let children = children_of(spec);
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
    let annotations = json!({TOKEN: "theirs", "sub.gatewayqueue.dev/a": "theirs", "team": "bots"});
    let mut labels = annotations.clone();
    labels[INSTANCE] = json!("theirs");
    let both = json!({"labels": labels, "annotations": annotations});
    for child in children_of(json!({"service": both, "pod": both})) {
        let text = child.manifest.to_string();
        assert!(!text.contains("theirs"), "{text}");
        assert_eq!(child.manifest["metadata"]["labels"][INSTANCE], "my-bot");
    }
}
