//! The children of GatewayQueues, and the fields of them that the operator owns.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::api::{Api, CHILDREN, LEASE, SERVICE};

/// The field manager of the operator.
const OPERATOR: &str = "gateway-queue-operator";

/// The hash of what was applied, which differs with the name.
const HASH: &str = "gatewayqueue.dev/applied-hash";

/// The hash of the token's Secret.
const TOKEN: &str = "gatewayqueue.dev/token-ref-hash";

/// All children in a namespace, by their kinds and the names of their GatewayQueues.
pub(crate) struct Children(BTreeMap<(&'static str, String), Value>);

impl Children {
    pub(crate) fn of(api: &Api, namespace: &str) -> Self {
        let mut all = BTreeMap::new();
        for kind in CHILDREN {
            for object in api.list(kind, namespace) {
                let name = object["metadata"]["name"].as_str().unwrap();
                let queue = match kind {
                    SERVICE => Some(name),
                    _ => name.strip_suffix("-queue"),
                };
                if let Some(queue) = queue.map(str::to_owned) {
                    all.insert((kind.word, queue), object);
                }
            }
        }
        Self(all)
    }

    /// The children of one GatewayQueue.
    pub(crate) fn named(&self, name: &str) -> impl Iterator<Item = (&'static str, &Value)> {
        let mine = self.0.iter().filter(move |((_, own), _)| own == name);
        mine.map(|((word, _), object)| (*word, object))
    }

    pub(crate) fn get(&self, word: &str, name: &str) -> Option<&Value> {
        let mut mine = self.named(name);
        mine.find_map(|(own, object)| (own == word).then_some(object))
    }

    /// The operator's fields of the children of a GatewayQueue. Names, UIDs and hashes are
    /// replaced by constants, so that the children of two GatewayQueues can be compared.
    pub(crate) fn owned(&self, name: &str) -> BTreeMap<&'static str, Value> {
        self.named(name)
            .map(|(word, object)| {
                let mut owned = owned(object);
                // The operator sets them once; then they belong to the queue.
                if word == LEASE.word {
                    owned["metadata"]["annotations"].take();
                }
                anonymize(&mut owned, name);
                (word, owned)
            })
            .collect()
    }
}

/// The differences of two sets of children, one line for each field.
pub(crate) fn differences(
    what: &str,
    found: &BTreeMap<&'static str, Value>,
    wanted: &BTreeMap<&'static str, Value>,
) -> Vec<String> {
    let [found, wanted] = [found, wanted].map(|children| {
        let mut leaves = BTreeMap::new();
        collect_leaves(what.to_owned(), &json!(children), &mut leaves);
        leaves
    });
    let all: BTreeSet<_> = found.keys().chain(wanted.keys()).collect();
    let differing = all
        .into_iter()
        .filter(|place| found.get(*place) != wanted.get(*place));
    let text = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
    let line = |place| {
        let (found, wanted) = (text(found.get(place)), text(wanted.get(place)));
        format!("{place} is {found}, not {wanted}")
    };
    differing.map(line).collect()
}

fn collect_leaves(place: String, value: &Value, leaves: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                collect_leaves(format!("{place}.{key}"), value, leaves);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, value) in items.iter().enumerate() {
                collect_leaves(format!("{place}[{index}]"), value, leaves);
            }
        }
        value => drop(leaves.insert(place, value.clone())),
    }
}

/// The fields of an object that the operator owns, by apply or by the creation of the Lease.
fn owned(object: &Value) -> Value {
    let entries = object["metadata"]["managedFields"].as_array();
    let fields: Vec<&Value> = entries
        .into_iter()
        .flatten()
        .filter(|entry| entry["manager"] == OPERATOR && entry["subresource"].is_null())
        .map(|entry| &entry["fieldsV1"])
        .collect();
    if fields.is_empty() {
        Value::Null
    } else {
        select(object, &fields)
    }
}

/// Selects the parts of a value that are in one of the sets `fields`, in the format of
/// `fieldsV1`.
fn select(value: &Value, fields: &[&Value]) -> Value {
    let is_leaf = |fields: &&Value| fields.as_object().is_none_or(Map::is_empty);
    if fields.iter().any(is_leaf) {
        // The whole value is owned.
        return value.clone();
    }
    let below = |is: &dyn Fn(&str) -> bool| -> Vec<&Value> {
        let all = fields.iter().filter_map(|fields| fields.as_object());
        let all = all.flatten().filter(|(key, _)| is(key));
        all.map(|(_, below)| below).collect()
    };
    match value {
        Value::Object(object) => {
            let inner = object.iter().filter_map(|(name, value)| {
                let below = below(&|key| key.strip_prefix("f:") == Some(name));
                (!below.is_empty()).then(|| (name.clone(), select(value, &below)))
            });
            Value::Object(inner.collect())
        }
        Value::Array(items) => {
            let inner = items.iter().filter_map(|item| {
                let below = below(&|key| match key.split_once(':') {
                    Some(("v", value)) => serde_json::from_str(value).ok().as_ref() == Some(item),
                    Some(("k", keys)) => has(item, keys),
                    _ => false,
                });
                (!below.is_empty()).then(|| select(item, &below))
            });
            inner.collect()
        }
        value => value.clone(),
    }
}

fn has(item: &Value, keys: &str) -> bool {
    let keys: Map<String, Value> = serde_json::from_str(keys).unwrap();
    keys.iter().all(|(key, value)| item.get(key) == Some(value))
}

fn anonymize(value: &mut Value, name: &str) {
    match value {
        Value::String(text) if text == name => "NAME".clone_into(text),
        Value::String(text) if text.strip_suffix("-queue") == Some(name) => {
            "NAME-queue".clone_into(text);
        }
        Value::Array(items) => items.iter_mut().for_each(|item| anonymize(item, name)),
        Value::Object(fields) => {
            for (key, value) in fields {
                match key.as_str() {
                    HASH => *value = "HASH".into(),
                    // Each GatewayQueue has its own Secret.
                    TOKEN if *value != "none" => *value = "TOKEN".into(),
                    "uid" => *value = "UID".into(),
                    _ => anonymize(value, name),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_others_are_left_out_and_names_replaced() {
        let ours = json!({
            "f:metadata": {"f:annotations": {"f:gatewayqueue.dev/applied-hash": {}}, "f:ownerReferences": {
                r#"k:{"uid":"u"}"#: {}}},
            "f:spec": {"f:ports": {r#"k:{"port":80}"#: {"f:name": {}}}, "f:selector": {},
                "f:set": {r#"v:"a""#: {}}},
        });
        let object = json!({
            "metadata": {
                "annotations": {"gatewayqueue.dev/applied-hash": "12", "theirs": "x"},
                "ownerReferences": [{"uid": "u", "name": "my-bot"}],
                "managedFields": [
                    {"manager": OPERATOR, "operation": "Apply", "subresource": "status", "fieldsV1": {}},
                    {"manager": OPERATOR, "operation": "Apply", "fieldsV1": ours},
                    {"manager": OPERATOR, "operation": "Update", "fieldsV1": {"f:spec": {"f:type": {}}}},
                    {"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:spec": {"f:ip": {}}}},
                ],
            },
            "spec": {
                "ports": [{"port": 80, "name": "queue", "nodePort": 1}, {"port": 81, "name": "x"}],
                "selector": {"app": "my-bot"}, "set": ["a", "b"], "type": "ClusterIP", "ip": "::",
            },
        });
        let mut owned = owned(&object);
        anonymize(&mut owned, "my-bot");
        let wanted = json!({
            "metadata": {
                "annotations": {"gatewayqueue.dev/applied-hash": "HASH"},
                "ownerReferences": [{"uid": "UID", "name": "NAME"}],
            },
            "spec": {"ports": [{"name": "queue"}], "selector": {"app": "NAME"}, "set": ["a"],
                "type": "ClusterIP"},
        });
        assert_eq!(owned, wanted);
    }

    #[test]
    fn differences_name_the_field_that_is_changed_or_missing() {
        let set = |port: u16| BTreeMap::from([("Service", json!({"spec": {"port": port}}))]);
        assert_eq!(differences("q", &set(1), &set(1)), [""; 0]);
        let changed = differences("q", &set(1), &set(2));
        assert_eq!(changed, ["q.Service.spec.port is 1, not 2"]);
        let missing = differences("q", &BTreeMap::from([("Service", json!({}))]), &set(2));
        assert!(
            missing.contains(&"q.Service.spec.port is nothing, not 2".to_owned()),
            "{missing:?}"
        );
    }
}
