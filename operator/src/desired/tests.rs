use super::*;
use crate::api::RESERVED_VARIABLES;
use crate::testing::{defaults, queue};

mod golden;

fn children_of(spec: Value) -> Vec<Child> {
    children(&queue(spec), &defaults(), false, &BTreeSet::new()).unwrap()
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

#[test]
fn pods_cannot_set_a_variable_that_the_operator_sets() {
    let everything = json!({
        "host": "::", "tokenSecretRef": {"name": "a"}, "discordApi": "http://a",
        "discordCaRef": {"name": "a"},
    });
    for spec in [everything, json!({"maxConcurrency": 2})] {
        let children = children_of(spec);
        let deployment = &children.last().unwrap().manifest;
        let env = deployment.pointer("/spec/template/spec/containers/0/env");
        for variable in env.unwrap().as_array().unwrap() {
            let name = variable["name"].as_str().unwrap();
            assert!(RESERVED_VARIABLES.contains(&name), "{name}");
        }
    }
}

#[test]
fn inherited_metadata_is_on_every_object_and_gives_way_to_that_of_the_object() {
    let children = children_of(json!({
        "replicas": 2,
        "networkPolicy": {"enabled": true},
        "inheritedMetadata": {"labels": {"team": "a", "crew": "b"}, "annotations": {"c": "d"}},
        "service": {"labels": {"team": "own"}},
        "pod": {"annotations": {"c": "own"}},
    }));
    assert_eq!(children.len(), 8);
    for child in &children {
        let metadata = &child.manifest["metadata"];
        let team = match child.kind {
            Kind::Service => "own",
            _ => "a",
        };
        assert_eq!(metadata["labels"]["team"], team, "{:?}", child.kind);
        assert_eq!(metadata["labels"]["crew"], "b", "{:?}", child.kind);
        assert_eq!(metadata["annotations"]["c"], "d", "{:?}", child.kind);
    }
    let deployment = &children.last().unwrap().manifest;
    let pod = &deployment["spec"]["template"]["metadata"];
    assert_eq!(pod["labels"]["team"], "a");
    assert_eq!(pod["annotations"]["c"], "own");
}

#[test]
fn while_the_port_changes_the_network_policy_allows_the_old_one_too() {
    let spec = json!({"port": 6000, "networkPolicy": {"enabled": true}});
    let ports = |existing: &[i32]| {
        let existing = existing.iter().copied().collect();
        let children = children(&queue(spec.clone()), &defaults(), false, &existing).unwrap();
        let mut policy = children.into_iter().find(|c| c.kind == Kind::NetworkPolicy);
        let ports = policy.as_mut().unwrap().manifest["spec"]["ingress"][0]["ports"].take();
        let ports = ports.as_array().unwrap().iter();
        ports
            .map(|port| port["port"].as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(ports(&[]), [6000]);
    assert_eq!(ports(&[5000, 6000]), [5000, 6000]);
}

#[test]
fn the_name_of_a_child_leads_to_its_queue() {
    let owner = crate::testing::owner();
    for kind in Kind::ALL {
        let name = kind.name_for(&owner);
        assert_eq!(name == owner.name, *kind == Kind::Service, "{kind:?}");
        assert_eq!(kind.queue_of(&name), owner.name, "{kind:?}");
    }
}

#[test]
fn names_of_the_cluster_are_looked_up_there_first_if_the_spec_has_any() {
    for (spec, has_ndots) in [
        (json!({}), true),
        (json!({"pod": {"env": []}}), true),
        (json!({"discordApi": "http://proxy.dev/api/v10"}), false),
        (
            json!({"pod": {"env": [{"name": "HTTPS_PROXY", "value": "http://proxy.infra"}]}}),
            false,
        ),
    ] {
        let children = children_of(spec.clone());
        let deployment = &children.last().unwrap().manifest;
        let dns = deployment.pointer("/spec/template/spec/dnsConfig");
        assert_eq!(dns.is_some(), has_ndots, "{spec}");
    }
}

#[test]
fn a_reserved_variable_that_an_older_schema_accepted_is_not_set() {
    let env = json!([{"name": "UPSTREAM", "value": "a"}, {"name": "A", "value": "b"}]);
    let children = children_of(json!({"pod": {"env": env}}));
    let deployment = &children.last().unwrap().manifest;
    let env = deployment.pointer("/spec/template/spec/containers/0/env");
    let env = env.unwrap().as_array().unwrap();
    assert_eq!(*env.last().unwrap(), json!({"name": "A", "value": "b"}));
    assert!(env.iter().all(|variable| variable["name"] != "UPSTREAM"));
}
