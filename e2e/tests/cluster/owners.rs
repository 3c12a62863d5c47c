//! The owner references of the children. The API server accepts them only from clients that may
//! delete the owner.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{Api, CHILDREN, Kind, QUEUE, condition};
use crate::kubectl::Namespace;
use crate::wait::settle;

const PATIENCE: Duration = Duration::from_secs(60);

/// A spec with a child of every kind and unschedulable pods.
fn spec() -> Value {
    json!({
        "replicas": 2,
        "pod": {"nodeSelector": {"nowhere": "true"}},
        "networkPolicy": {"enabled": true},
    })
}

fn uid(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// The UIDs of all children, by their kinds.
fn uids(api: &Api, namespace: &str) -> BTreeMap<&'static str, String> {
    let child = |kind: &Kind| api.get(*kind, namespace, &kind.child_of("my-bot"));
    let found = CHILDREN
        .iter()
        .filter_map(|kind| Some((kind.word, uid(&child(kind)?))));
    found.collect()
}

/// The children that the GatewayQueue with this UID does not control.
fn not_owned(api: &Api, namespace: &str, owner: &str) -> Vec<String> {
    let not_owned = |kind: &Kind| {
        let owners = match api.get(*kind, namespace, &kind.child_of("my-bot")) {
            None => Value::Null,
            Some(child) => child["metadata"]["ownerReferences"].clone(),
        };
        let own = owners.as_array().into_iter().flatten();
        let mut own = own.filter(|o| o["uid"] == *owner && o["name"] == "my-bot");
        let is_owned = own.any(|o| o["controller"] == true);
        (!is_owned).then(|| format!("{} has the owners {owners}", kind.word))
    };
    CHILDREN.iter().filter_map(not_owned).collect()
}

fn create(api: &Api, namespace: &str) -> String {
    let queue = api.apply_queue(namespace, "my-bot", &spec()).unwrap();
    let owner = uid(&queue);
    settle(PATIENCE, || not_owned(api, namespace, &owner));
    owner
}

#[test]
fn a_queue_that_is_recreated_adopts_the_orphaned_children() {
    let namespace = Namespace::new("orphans");
    let api = Api::new();
    let name = namespace.name();
    let before = create(&api, name);
    let children = uids(&api, name);
    let delete = "delete gwq my-bot --cascade=orphan";
    namespace.kubectl(delete).unwrap();
    assert_eq!(uids(&api, name), children);
    let after = create(&api, name);
    assert_ne!(before, after);
    assert_eq!(uids(&api, name), children, "a child was recreated");
    settle(PATIENCE, || {
        let queue = api.get(QUEUE, name, "my-bot").unwrap();
        let [_, reason, message] = condition(&queue, "Ready");
        let adopted = !reason.is_empty() && reason != "NameTaken";
        (!adopted).then(|| format!("{reason}: {message}"))
    });
}

#[test]
fn a_removed_or_changed_owner_reference_is_restored_on_every_child() {
    let namespace = Namespace::new("owners");
    let api = Api::new();
    let name = namespace.name();
    let owner = create(&api, name);
    let path = "/metadata/ownerReferences";
    let theirs = json!([{
        "apiVersion": QUEUE.version, "kind": QUEUE.word, "name": "theirs", "uid": owner,
        "controller": false, "blockOwnerDeletion": true,
    }]);
    for patch in [
        json!([{"op": "remove", "path": path}]),
        json!([{"op": "replace", "path": path, "value": theirs}]),
    ] {
        let children = uids(&api, name);
        for kind in CHILDREN {
            api.patch(kind, name, &kind.child_of("my-bot"), &patch)
                .unwrap();
        }
        settle(PATIENCE, || not_owned(&api, name, &owner));
        assert_eq!(uids(&api, name), children, "a child was recreated");
    }
}
