//! Who owns the children: what makes them go with their GatewayQueue, and stay without
//! it. The API server lets nobody write owner references who may not delete the object.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{Api, CHILDREN, QUEUE};
use crate::children::settle;
use crate::kubectl::Namespace;

const PATIENCE: Duration = Duration::from_secs(60);

/// With a child of every kind, and pods that no node takes.
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
    let children = CHILDREN.iter();
    let found =
        children.filter_map(|kind| Some((kind.word, uid(&api.get(*kind, namespace, "my-bot")?))));
    found.collect()
}

/// The children that the GatewayQueue of this UID does not own as it should.
fn not_owned(api: &Api, namespace: &str, owner: &str) -> Vec<String> {
    let complaint = |kind: &crate::api::Kind| {
        let owners = match api.get(*kind, namespace, "my-bot") {
            None => Value::Null,
            Some(child) => child["metadata"]["ownerReferences"].clone(),
        };
        let own = owners.as_array().into_iter().flatten();
        let mut own = own.filter(|o| o["uid"] == *owner && o["name"] == "my-bot");
        let is_owned = own.any(|o| o["controller"] == true);
        (!is_owned).then(|| format!("{} has the owners {owners}", kind.word))
    };
    CHILDREN.iter().filter_map(complaint).collect()
}

fn made(api: &Api, namespace: &str) -> String {
    let queue = api.apply_queue(namespace, "my-bot", &spec()).unwrap();
    let owner = uid(&queue);
    settle(PATIENCE, || not_owned(api, namespace, &owner));
    owner
}

#[test]
fn a_queue_that_was_deleted_without_its_children_and_is_made_again_adopts_them() {
    let namespace = Namespace::new("orphans");
    let api = Api::new(&namespace);
    let name = namespace.name();
    let before = made(&api, name);
    let children = uids(&api, name);
    namespace
        .kubectl(&["delete", "gwq", "my-bot", "--cascade=orphan"])
        .unwrap();
    assert_eq!(uids(&api, name), children);
    let after = made(&api, name);
    assert_ne!(before, after);
    assert_eq!(uids(&api, name), children, "a child was made anew");
    settle(PATIENCE, || {
        let queue = api.get(QUEUE, name, "my-bot").unwrap();
        let ready = &queue["status"]["conditions"][0];
        let says = !ready.is_null() && ready["reason"] != "NameTaken";
        (!says).then(|| ready.to_string()).into_iter().collect()
    });
}

#[test]
fn an_owner_that_somebody_removed_or_changed_is_put_back_on_every_child() {
    let namespace = Namespace::new("owners");
    let api = Api::new(&namespace);
    let name = namespace.name();
    let owner = made(&api, name);
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
            api.patch(kind, name, "my-bot", &patch).unwrap();
        }
        settle(PATIENCE, || not_owned(&api, name, &owner));
        assert_eq!(uids(&api, name), children, "a child was made anew");
    }
}
