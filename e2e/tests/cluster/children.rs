//! What GatewayQueues have made, reduced to what the operator answers for: the
//! fields that it owns, whatever others have added.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::api::{Api, CHILDREN, LEASE};

/// The manager of the operator's fields.
const OPERATOR: &str = "gateway-queue-operator";

/// Tells of what was applied: it differs where a name differs.
const MARK: &str = "gatewayqueue.dev/applied-hash";

/// Tells of which token a Lease or a pod is: it differs where a Secret differs.
const TOKEN: &str = "gatewayqueue.dev/token-ref-hash";

/// All children in a namespace, by the word of their kind and their name.
pub(crate) struct Children(BTreeMap<(&'static str, String), Value>);

impl Children {
    pub(crate) fn of(api: &Api, namespace: &str) -> Self {
        let mut all = BTreeMap::new();
        for kind in CHILDREN {
            for object in api.list(kind, namespace) {
                let name = object["metadata"]["name"].as_str().unwrap().to_owned();
                all.insert((kind.word, name), object);
            }
        }
        Self(all)
    }

    /// Those of one GatewayQueue.
    pub(crate) fn named(&self, name: &str) -> impl Iterator<Item = (&'static str, &Value)> {
        let mine = self.0.iter().filter(move |((_, own), _)| own == name);
        mine.map(|((word, _), object)| (*word, object))
    }

    pub(crate) fn get(&self, word: &'static str, name: &str) -> Option<&Value> {
        self.0.get(&(word, name.to_owned()))
    }

    /// The children of a GatewayQueue as the operator owns them, with what is its
    /// alone (its name, its UID, its marks) replaced by words.
    pub(crate) fn owned(&self, name: &str) -> BTreeMap<&'static str, Value> {
        self.named(name)
            .map(|(word, object)| {
                let mut owned = owned(object);
                // The operator's first words there are the queue's from then on.
                if word == LEASE.word {
                    owned["metadata"]["annotations"].take();
                }
                anonymous(&mut owned, name);
                (word, owned)
            })
            .collect()
    }
}

/// Looks again and again until nothing is left to complain about.
pub(crate) fn settle(patience: Duration, mut complaints: impl FnMut() -> Vec<String>) -> Duration {
    let started = Instant::now();
    loop {
        let left = complaints();
        if left.is_empty() {
            return started.elapsed();
        }
        assert!(
            started.elapsed() < patience,
            "not within {patience:?}:\n{}",
            left.join("\n")
        );
        thread::sleep(Duration::from_millis(300));
    }
}

/// How two sets of children differ, one line for each field.
pub(crate) fn differences(
    what: &str,
    found: &BTreeMap<&'static str, Value>,
    wanted: &BTreeMap<&'static str, Value>,
) -> Vec<String> {
    let mut lines = Vec::new();
    for word in found.keys().chain(wanted.keys()) {
        compare(
            &format!("{what}: {word}"),
            found.get(word),
            wanted.get(word),
            &mut lines,
        );
    }
    lines.sort();
    lines.dedup();
    lines
}

fn compare(place: &str, found: Option<&Value>, wanted: Option<&Value>, lines: &mut Vec<String>) {
    match (found, wanted) {
        (found, wanted) if found == wanted => {}
        (Some(Value::Object(found)), Some(Value::Object(wanted))) => {
            for key in found.keys().chain(wanted.keys()) {
                let place = format!("{place}.{key}");
                compare(&place, found.get(key), wanted.get(key), lines);
            }
        }
        (Some(Value::Array(found)), Some(Value::Array(wanted))) if found.len() == wanted.len() => {
            for (place_in, (found, wanted)) in found.iter().zip(wanted).enumerate() {
                let place = format!("{place}[{place_in}]");
                compare(&place, Some(found), Some(wanted), lines);
            }
        }
        (found, wanted) => {
            let tell = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
            let (found, wanted) = (tell(found), tell(wanted));
            lines.push(format!("{place} is {found}, and shall be {wanted}"));
        }
    }
}

/// The fields of `object` that the operator has written: it applies, and makes a
/// first Lease by other means.
fn owned(object: &Value) -> Value {
    let entries = object["metadata"]["managedFields"].as_array();
    let fields: Vec<&Value> = entries
        .into_iter()
        .flatten()
        .filter(|entry| entry["manager"] == OPERATOR && entry["subresource"].is_null())
        .map(|entry| &entry["fieldsV1"])
        .collect();
    match fields.is_empty() {
        true => Value::Null,
        false => select(object, &fields),
    }
}

/// What of `value` is in one of the sets `fields`, in the notation of `fieldsV1`.
fn select(value: &Value, fields: &[&Value]) -> Value {
    let is_leaf = |fields: &&Value| fields.as_object().is_none_or(Map::is_empty);
    if fields.iter().any(is_leaf) {
        // It is owned as a whole.
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

fn anonymous(value: &mut Value, name: &str) {
    match value {
        Value::String(text) if text == name => "NAME".clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(|item| anonymous(item, name)),
        Value::Object(fields) => {
            for (key, value) in fields {
                match key.as_str() {
                    MARK => *value = "MARK".into(),
                    // Each has a Secret of its own.
                    TOKEN if *value != "none" => *value = "TOKEN".into(),
                    "uid" => *value = "UID".into(),
                    _ => anonymous(value, name),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_own_is_left_out_and_names_are_taken_away() {
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
        anonymous(&mut owned, "my-bot");
        let wanted = json!({
            "metadata": {
                "annotations": {"gatewayqueue.dev/applied-hash": "MARK"},
                "ownerReferences": [{"uid": "UID", "name": "NAME"}],
            },
            "spec": {"ports": [{"name": "queue"}], "selector": {"app": "NAME"}, "set": ["a"],
                "type": "ClusterIP"},
        });
        assert_eq!(owned, wanted);
    }

    #[test]
    fn a_difference_is_told_by_its_field() {
        let set = |port: u16| BTreeMap::from([("Service", json!({"spec": {"port": port}}))]);
        assert_eq!(differences("q", &set(1), &set(1)), Vec::<String>::new());
        let told = differences("q", &set(1), &set(2));
        assert_eq!(told, ["q: Service.spec.port is 1, and shall be 2"]);
        let told = differences("q", &BTreeMap::new(), &set(2));
        assert!(told[0].starts_with("q: Service is nothing"), "{told:?}");
    }
}
