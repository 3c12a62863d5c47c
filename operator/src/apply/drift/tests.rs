use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    FieldsV1, ManagedFieldsEntry, OwnerReference, Time,
};
use serde_json::json;

use super::*;
use crate::desired::Kind;
use crate::testing::owner;

fn child() -> Child {
    Child {
        kind: Kind::Deployment,
        hash: "abcd".to_owned(),
        manifest: json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": "my-bot",
                "namespace": "shop",
                "labels": {"team": "bots"},
                "annotations": {"gatewayqueue.dev/applied-hash": "abcd"},
                "ownerReferences": [{"uid": "0001", "name": "my-bot", "controller": true}],
            },
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"team": "bots"}},
                "containers": [{
                    "name": "queue",
                    "ports": [{"name": "queue", "containerPort": 5000}],
                    "args": ["a"],
                }],
            },
        }),
    }
}

/// The set of fields that the API server records when [`child`] is applied.
fn fields() -> Value {
    json!({
        "f:metadata": {
            "f:labels": {"f:team": {}},
            "f:annotations": {"f:gatewayqueue.dev/applied-hash": {}},
            "f:ownerReferences": {"k:{\"uid\":\"0001\"}": {}},
        },
        "f:spec": {
            "f:replicas": {},
            "f:selector": {},
            "f:containers": {"k:{\"name\":\"queue\"}": {
                ".": {},
                "f:name": {},
                "f:ports": {"k:{\"containerPort\":5000,\"protocol\":\"TCP\"}": {
                    ".": {}, "f:name": {}, "f:containerPort": {},
                }},
                "f:args": {"v:\"a\"": {}},
            }},
        },
    })
}

fn entry(manager: &str, operation: &str, fields: Value) -> ManagedFieldsEntry {
    ManagedFieldsEntry {
        manager: Some(manager.to_owned()),
        operation: Some(operation.to_owned()),
        fields_v1: Some(FieldsV1(fields)),
        ..ManagedFieldsEntry::default()
    }
}

fn observed(managed: Vec<ManagedFieldsEntry>) -> ObjectMeta {
    let string = str::to_owned;
    ObjectMeta {
        uid: Some("0042".to_owned()),
        labels: Some(
            [("team", "bots"), ("more", "x")]
                .map(|(k, v)| (string(k), string(v)))
                .into(),
        ),
        annotations: Some([(string("gatewayqueue.dev/applied-hash"), string("abcd"))].into()),
        owner_references: Some(vec![OwnerReference {
            uid: "0001".to_owned(),
            ..OwnerReference::default()
        }]),
        managed_fields: Some(managed),
        ..ObjectMeta::default()
    }
}

fn applied() -> ObjectMeta {
    observed(vec![entry(MANAGER, "Apply", fields())])
}

fn is(observed: &ObjectMeta) -> ChildState {
    state(&child(), &owner(), Some(observed), &BTreeSet::new())
}

fn drifted() -> ChildState {
    ChildState::Drifted {
        uid: Some("0042".to_owned()),
        edited: true,
        version: None,
    }
}

#[test]
fn the_state_depends_on_owner_deletion_and_fields() {
    let changed = |change: &dyn Fn(&mut ObjectMeta)| {
        let mut metadata = applied();
        change(&mut metadata);
        metadata
    };
    let owned_by = |api_version: &str, kind: &str, name: &str| {
        let owner = OwnerReference {
            uid: "0000".to_owned(),
            name: name.to_owned(),
            kind: kind.to_owned(),
            api_version: api_version.to_owned(),
            ..OwnerReference::default()
        };
        changed(&|metadata| metadata.owner_references = Some(vec![owner.clone()]))
    };
    let version = "gatewayqueue.dev/v1alpha1";
    for (observed, expected) in [
        (applied(), ChildState::UpToDate),
        (
            changed(&|metadata| metadata.owner_references = None),
            ChildState::Foreign,
        ),
        (
            owned_by("apps/v1", "Deployment", "my-bot"),
            ChildState::Foreign,
        ),
        (
            owned_by(version, "GatewayQueue", "other"),
            ChildState::Foreign,
        ),
        // A deleted GatewayQueue of this name.
        (
            owned_by(version, "GatewayQueue", "my-bot"),
            ChildState::Terminating,
        ),
        (
            changed(&|metadata| metadata.deletion_timestamp = Some(time())),
            ChildState::Terminating,
        ),
        (
            changed(&|metadata| metadata.managed_fields = None),
            drifted(),
        ),
    ] {
        assert_eq!(is(&observed), expected, "{observed:?}");
    }
    let missing = state(&child(), &owner(), None, &BTreeSet::new());
    assert_eq!(missing, ChildState::Missing);
}

fn time() -> Time {
    Time("2026-11-23T12:00:00Z".parse().unwrap())
}

#[test]
fn a_lease_of_another_token_is_replaced_and_one_without_a_token_is_kept() {
    let mut lease = child();
    lease.kind = Kind::Lease;
    lease.manifest["metadata"]["labels"][TOKEN] = json!("new");
    let mut observed = applied();
    let state_of =
        |observed: &ObjectMeta| state(&lease, &owner(), Some(observed), &BTreeSet::new());
    assert!(matches!(state_of(&observed), ChildState::Drifted { .. }));
    let labels = observed.labels.get_or_insert_default();
    labels.insert(TOKEN.to_owned(), "old".to_owned());
    let uid = Some("0042".to_owned());
    assert_eq!(state_of(&observed), ChildState::WrongToken { uid });
    // Unless admission sets it: another Lease would be the same.
    let accepted = deviations(&lease, &observed);
    let known = state(&lease, &owner(), Some(&observed), &accepted);
    assert_eq!(known, ChildState::UpToDate);
}

#[test]
fn another_hash_is_drift() {
    let mut old = applied();
    old.annotations = Some([(APPLIED.to_owned(), "0000".to_owned())].into());
    let of_another_spec = ChildState::Drifted {
        uid: Some("0042".to_owned()),
        edited: false,
        version: None,
    };
    assert_eq!(is(&old), of_another_spec);
    old.annotations = None;
    assert_eq!(is(&old), drifted());
}

#[test]
fn every_field_that_another_client_took_over_is_drift() {
    let gone = [
        "/f:spec/f:replicas",
        "/f:spec/f:selector",
        "/f:spec/f:containers/k:{\"name\":\"queue\"}",
        "/f:spec/f:containers/k:{\"name\":\"queue\"}/f:args/v:\"a\"",
        "/f:metadata/f:labels/f:team",
        "/f:metadata/f:ownerReferences/k:{\"uid\":\"0001\"}",
    ];
    for pointer in gone {
        let mut fields = fields();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = fields.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        assert!(parent.remove(key).is_some(), "{pointer}");
        // A set that lost its last member remains, with only itself in it.
        parent.insert(".".to_owned(), json!({}));
        let edited = observed(vec![
            entry(MANAGER, "Apply", fields),
            entry("kubectl-edit", "Update", json!({"f:spec": {}})),
        ]);
        assert_eq!(is(&edited), drifted(), "{pointer}");
    }
}

#[test]
fn fields_that_others_add_are_no_drift() {
    let status = ManagedFieldsEntry {
        subresource: Some("status".to_owned()),
        ..entry("kube-controller-manager", "Update", json!({"f:status": {}}))
    };
    let others = observed(vec![
        entry(
            "kubectl-edit",
            "Update",
            json!({"f:spec": {"f:paused": {}}}),
        ),
        status,
        entry(MANAGER, "Apply", fields()),
    ]);
    assert_eq!(is(&others), ChildState::UpToDate);
}

#[test]
fn what_a_webhook_changes_in_our_apply_is_no_drift() {
    let mut kept = fields();
    let spec = kept["f:spec"].as_object_mut().unwrap();
    spec.remove("f:replicas");
    let changed = entry(MANAGER, "Update", json!({"f:spec": {"f:replicas": {}}}));
    let rewritten = observed(vec![entry(MANAGER, "Apply", kept), changed]);
    assert_eq!(is(&rewritten), ChildState::UpToDate);
}

#[test]
fn only_our_objects_that_are_not_being_deleted_are_leftovers() {
    let mut ours = applied();
    assert!(is_leftover(&owner(), &ours));
    ours.deletion_timestamp = Some(time());
    assert!(!is_leftover(&owner(), &ours));
    let mut foreign = applied();
    foreign.owner_references = None;
    assert!(!is_leftover(&owner(), &foreign));
}

#[test]
fn an_owner_that_another_client_took_over_is_drift_even_if_the_list_is_ours() {
    // In a created object, the list itself has an owner as well.
    let mut created = fields();
    created["f:metadata"]["f:ownerReferences"] = json!({".": {}, "k:{\"uid\":\"0001\"}": {}});
    let ours = entry(MANAGER, "Update", created.clone());
    let state_of = |entries| is(&observed(entries));
    assert_eq!(state_of(vec![ours]), ChildState::UpToDate);
    created["f:metadata"]["f:ownerReferences"] = json!({});
    let left = entry(MANAGER, "Update", created);
    assert!(matches!(state_of(vec![left]), ChildState::Drifted { .. }));
}

#[test]
fn labels_of_the_spec_are_applied_to_the_lease_and_removed_from_it_without_an_edit() {
    let mut child = child();
    child.kind = Kind::Lease;
    let metadata = child.manifest["metadata"].as_object_mut().unwrap();
    metadata.remove("annotations");
    let state = |child: &Child, observed: &ObjectMeta| match state(
        child,
        &owner(),
        Some(observed),
        &BTreeSet::new(),
    ) {
        ChildState::UpToDate => None,
        ChildState::Drifted { edited, .. } => Some(edited),
        other => panic!("{other:?}"),
    };
    let mut observed = applied();
    assert_eq!(state(&child, &observed), None);
    // The spec has another value, another label, or none.
    for labels in [json!({"team": "two"}), json!({"crew": "bots"}), json!({})] {
        child.manifest["metadata"]["labels"] = labels;
        assert_eq!(state(&child, &observed), Some(false));
    }
    // Another client has removed it, and it is not desired.
    observed.labels = None;
    assert_eq!(state(&child, &observed), None);
    // A label of the operator is never from the spec.
    let name = json!({"app.kubernetes.io/name": "gateway-queue"});
    child.manifest["metadata"]["labels"] = name;
    assert_eq!(state(&child, &observed), Some(true));
}
