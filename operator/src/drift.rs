//! Whether a child is as it was applied. Pure.
//!
//! Two questions, and neither compares a value that others may write in their
//! own way. Does the child carry the labels, annotations (with the mark of what
//! was applied) and owner that it shall? And does the operator still own every
//! field that it applied? A hand that changes a field takes it over in
//! `metadata.managedFields`, so a field that is not ours any more was changed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource as _;
use serde_json::{Map, Value};

use crate::MANAGER;
use crate::api::GatewayQueue;
use crate::desired::{APPLIED, Child, Owner, TOKEN};

/// How a child stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is no object of its name.
    Absent,
    /// There is one, and it is somebody else's. Never touched.
    Stranger,
    /// It is on its way out: ours, or of a GatewayQueue of this name that was deleted.
    /// Wait for its end.
    Leaving,
    /// It is ours, and of another token than it shall be. Another has to take its
    /// place.
    OfAnotherToken {
        /// The UID of the child.
        uid: Option<String>,
    },
    /// It is ours, and not as it shall be. Its UID keeps a repair from
    /// reaching another object that took its place meanwhile.
    Drifted {
        /// The UID of the child.
        uid: Option<String>,
        /// What is desired is what was applied: somebody else has changed it.
        edited: bool,
        /// The version of the child that was seen.
        version: Option<String>,
    },
    /// It is as it shall be.
    InPlace,
}

/// How `child` stands, when `observed` is the object of its kind and name.
pub fn standing(child: &Child, owner: &Owner, observed: Option<&ObjectMeta>) -> Standing {
    let Some(observed) = observed else {
        return Standing::Absent;
    };
    if !is_ours(owner, observed) {
        match was_of_a_namesake(owner, observed) {
            true => Standing::Leaving,
            false => Standing::Stranger,
        }
    } else if observed.deletion_timestamp.is_some() {
        Standing::Leaving
    } else if is_of_another_token(&child.manifest["metadata"], observed) {
        Standing::OfAnotherToken {
            uid: observed.uid.clone(),
        }
    } else if carries(&child.manifest["metadata"], observed) && owns(&child.manifest, observed) {
        Standing::InPlace
    } else {
        Standing::Drifted {
            uid: observed.uid.clone(),
            edited: was_edited(child, observed),
            version: observed.resource_version.clone(),
        }
    }
}

/// Whether its owner was a GatewayQueue of this name before: the garbage collector
/// will come.
fn was_of_a_namesake(owner: &Owner, observed: &ObjectMeta) -> bool {
    let owners = observed.owner_references.as_deref().unwrap_or_default();
    owners.iter().any(|o| {
        o.kind == GatewayQueue::kind(&())
            && o.api_version.split('/').next() == Some(&GatewayQueue::group(&()))
            && o.name == owner.name
    })
}

/// Of a child that says of which token it is, in both.
fn is_of_another_token(desired: &Value, observed: &ObjectMeta) -> bool {
    let carried = observed
        .labels
        .as_ref()
        .and_then(|labels| labels.get(TOKEN));
    let wanted = desired["labels"][TOKEN].as_str();
    carried
        .zip(wanted)
        .is_some_and(|(carried, wanted)| carried != wanted)
}

/// Whether a drifted child does not tell of another spec.
fn was_edited(child: &Child, observed: &ObjectMeta) -> bool {
    let mark = child.manifest["metadata"]["annotations"][APPLIED].as_str();
    let annotations = observed.annotations.as_ref();
    let carried = annotations.and_then(|annotations| annotations.get(APPLIED));
    carried.is_none_or(|carried| mark == Some(carried))
}

/// Whether `observed` is ours and still there, for a kind that this GatewayQueue
/// does not ask for any more.
pub fn is_leftover(owner: &Owner, observed: &ObjectMeta) -> bool {
    is_ours(owner, observed) && observed.deletion_timestamp.is_none()
}

fn is_ours(owner: &Owner, observed: &ObjectMeta) -> bool {
    let owners = observed.owner_references.as_deref().unwrap_or_default();
    owners.iter().any(|o| o.uid == owner.uid)
}

/// What is written over a child as a whole when applying its manifest gives
/// something invalid. A hand that changes the key of an item of a list (the port of
/// a Service, say) leaves an item that is not ours, and which applying does not
/// remove. All of the manifest, so that one that is invalid by itself is refused
/// here as well, and no half of it is written; but for the owners, a list that
/// others may have added to.
pub fn overwrite(manifest: &Value) -> Value {
    let mut overwrite = manifest.clone();
    if let Some(metadata) = overwrite["metadata"].as_object_mut() {
        metadata.remove("ownerReferences");
    }
    overwrite
}

/// Whether the labels and annotations are there with their values. The API
/// server keeps these strings as they are.
fn carries(desired: &Value, observed: &ObjectMeta) -> bool {
    [
        ("labels", &observed.labels),
        ("annotations", &observed.annotations),
    ]
    .into_iter()
    .all(|(field, observed)| {
        let desired = desired[field].as_object();
        desired.into_iter().flatten().all(|(key, value)| {
            let observed = observed.as_ref().and_then(|map| map.get(key));
            observed.map(String::as_str) == value.as_str()
        })
    })
}

/// Whether the operator owns every field of `manifest`.
///
/// Its entry as an updater counts as well: when a webhook changes what the
/// operator applies, the API server books the change there, and to put it back
/// would be a fight without an end.
fn owns(manifest: &Value, observed: &ObjectMeta) -> bool {
    let entries = observed.managed_fields.as_deref().unwrap_or_default();
    let owned: Vec<&Value> = entries
        .iter()
        .filter(|e| e.manager.as_deref() == Some(MANAGER) && e.subresource.is_none())
        .filter_map(|e| Some(&e.fields_v1.as_ref()?.0))
        .collect();
    let Some(fields) = manifest.as_object() else {
        return false;
    };
    fields
        .iter()
        .all(|(name, value)| match (name.as_str(), value) {
            // What identifies the object has no owner.
            ("apiVersion" | "kind", _) => true,
            ("metadata", Value::Object(metadata)) => {
                let owned = step(&owned, "f:metadata");
                metadata
                    .iter()
                    .filter(|(name, _)| !matches!(name.as_str(), "name" | "namespace"))
                    .all(|(name, value)| covers_metadata(&owned, name, value))
            }
            _ => covers_field(&owned, name, value),
        })
}

/// The same of a part of the metadata. Its maps and lists are owned entry by entry:
/// when a hand takes over the only owner of a Lease that was created, the set that
/// is left, empty, is of the list and not of what is in it.
fn covers_metadata(owned: &[&Value], name: &str, value: &Value) -> bool {
    let below = step(owned, &format!("f:{name}"));
    match value {
        Value::Object(fields) => fields
            .iter()
            .all(|(name, value)| covers_field(&below, name, value)),
        Value::Array(items) => items.iter().all(|item| covers_item(&below, item)),
        _ => !below.is_empty(),
    }
}

fn covers_field(owned: &[&Value], name: &str, value: &Value) -> bool {
    let below = step(owned, &format!("f:{name}"));
    !below.is_empty() && covers(&below, value)
}

/// Whether the sets of fields `owned` (in the notation of `fieldsV1`), taken
/// together, hold everything that is in `value`.
fn covers(owned: &[&Value], value: &Value) -> bool {
    // An empty set of fields below a field: it is owned as a whole.
    if owned
        .iter()
        .any(|o| o.as_object().is_none_or(Map::is_empty))
    {
        return true;
    }
    match value {
        Value::Object(fields) => fields
            .iter()
            .all(|(name, value)| covers_field(owned, name, value)),
        Value::Array(items) => items.iter().all(|item| covers_item(owned, item)),
        _ => true,
    }
}

/// Whether an item of a list is owned, be it a list of values (`v:…`) or one
/// whose items have keys (`k:…`).
fn covers_item(owned: &[&Value], item: &Value) -> bool {
    let mut below = Vec::new();
    for (key, fields) in owned.iter().filter_map(|o| o.as_object()).flatten() {
        let found = match key.split_once(':') {
            Some(("v", value)) => parse(value).as_ref() == Some(item),
            Some(("k", keys)) => parse(keys).is_some_and(|keys| has_keys(item, &keys)),
            _ => false,
        };
        if found {
            below.push(fields);
        }
    }
    !below.is_empty() && covers(&below, item)
}

/// Whether an item has these keys. One that the item leaves out has the default
/// of the API server, and tells nothing.
fn has_keys(item: &Value, keys: &Value) -> bool {
    let keys = keys.as_object();
    keys.into_iter()
        .flatten()
        .all(|(key, value)| item.get(key).is_none_or(|v| v == value))
}

fn step<'a>(owned: &[&'a Value], key: &str) -> Vec<&'a Value> {
    owned.iter().filter_map(|o| o.get(key)).collect()
}

fn parse(json: &str) -> Option<Value> {
    serde_json::from_str(json).ok()
}

#[cfg(test)]
mod tests;
