//! Whether a child differs from the desired state. Pure.
//!
//! A child is up to date if it has the desired labels, annotations (with the hash of the
//! manifest) and owner, and if the operator still owns every field that it applied: a client
//! that changes a field takes it over in `metadata.managedFields`. Other values are not
//! compared, because the API server may write them differently.
//!
//! A difference that is already in the response to an apply was made by admission. Applying
//! again would change nothing, so it is accepted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use k8s_openapi::Resource as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::Resource as _;
use serde_json::{Map, Value};

use crate::MANAGER;
use crate::api::GatewayQueue;
use crate::desired::{
    APPLIED, Child, INSTANCE, Kind, MANAGED_BY, NAME, Owner, TOKEN, is_reserved, is_well_known,
};

/// The state of a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChildState {
    /// No object has its name.
    Missing,
    /// An object of another owner has its name. It is never changed.
    Foreign,
    /// It is ours, or that of a deleted GatewayQueue of this name, and is being deleted.
    Terminating,
    /// It is ours, and a Lease of another token. It must be replaced.
    WrongToken {
        /// Its UID.
        uid: Option<String>,
    },
    /// It is ours, and differs from the desired state.
    Drifted {
        /// Its UID, so that the revert does not change another object of the name.
        uid: Option<String>,
        /// Whether another client changed it, rather than the spec.
        edited: bool,
        /// Its observed version.
        version: Option<String>,
    },
    /// It was applied a moment ago, and its watch has not returned it yet.
    Unobserved {
        /// When to read it, if the watch does not return it before.
        until: Instant,
    },
    /// It is as desired.
    UpToDate,
}

/// A field of a child that differs from what was applied.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deviation {
    /// The path of the field.
    pub field: String,
    /// The value of a label or annotation, if present. Of other fields, only the owner is
    /// compared.
    pub value: Option<String>,
}

/// Returns the state of `child`, given the object of its kind and name, and the deviations that
/// admission is known to cause.
pub fn state(
    child: &Child,
    owner: &Owner,
    observed: Option<&ObjectMeta>,
    accepted: &BTreeSet<Deviation>,
) -> ChildState {
    let Some(observed) = observed else {
        return ChildState::Missing;
    };
    let origin = origin(owner, observed);
    match origin {
        Origin::Foreign => return ChildState::Foreign,
        Origin::Namesake => return ChildState::Terminating,
        Origin::Ours | Origin::Orphan => {}
    }
    if observed.deletion_timestamp.is_some() {
        ChildState::Terminating
    } else if is_of_another_token(child, observed, accepted) {
        ChildState::WrongToken {
            uid: observed.uid.clone(),
        }
    } else if deviations(child, observed).is_subset(accepted) {
        ChildState::UpToDate
    } else {
        ChildState::Drifted {
            uid: observed.uid.clone(),
            // An orphan was left intentionally, and is adopted.
            edited: origin == Origin::Ours && was_edited(child, observed),
            version: observed.resource_version.clone(),
        }
    }
}

/// The origin of an object with the name of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// This GatewayQueue owns it.
    Ours,
    /// The operator created it for a GatewayQueue of this name that was deleted without its
    /// children: no controller owns it.
    Orphan,
    /// A deleted GatewayQueue of this name owns it. The garbage collector will delete it.
    Namesake,
    /// Any other origin.
    Foreign,
}

fn origin(owner: &Owner, observed: &ObjectMeta) -> Origin {
    let owners = observed.owner_references.as_deref().unwrap_or_default();
    let is_namesake = |kind: &str, api_version: &str, name: &str| {
        kind == GatewayQueue::kind(&())
            && api_version.split('/').next() == Some(&GatewayQueue::group(&()))
            && name == owner.name
    };
    if owners.iter().any(|o| o.uid == owner.uid) {
        Origin::Ours
    } else if owners
        .iter()
        .any(|o| is_namesake(&o.kind, &o.api_version, &o.name))
    {
        Origin::Namesake
    } else if !owners.iter().any(|o| o.controller == Some(true))
        && was_applied_by_the_operator(owner, observed)
    {
        Origin::Orphan
    } else {
        Origin::Foreign
    }
}

/// Whether the operator created an object for a GatewayQueue of this name. Labels are not
/// enough: the API server must have recorded that the operator applied it, or created it in
/// the case of a Lease.
fn was_applied_by_the_operator(owner: &Owner, observed: &ObjectMeta) -> bool {
    let label = |key: &str| {
        let labels = observed.labels.as_ref();
        labels
            .and_then(|labels| labels.get(key))
            .map(String::as_str)
    };
    let name = Some(owner.name.as_str());
    let is_labelled = match label(NAME) {
        // Created by an earlier version.
        None => label(INSTANCE) == name && label(MANAGED_BY) == Some(MANAGER),
        label => label == name,
    };
    let entries = observed.managed_fields.as_deref().unwrap_or_default();
    let mut entries = entries.iter().filter(|entry| is_of_the_operator(entry));
    is_labelled
        && entries.any(|entry| {
            let is_lease = entry.api_version.as_deref() == Some(Lease::API_VERSION);
            entry.operation.as_deref() == Some("Apply") || is_lease
        })
}

/// Whether a Lease has the label of another token, and admission did not set it.
fn is_of_another_token(
    child: &Child,
    observed: &ObjectMeta,
    accepted: &BTreeSet<Deviation>,
) -> bool {
    let carried = observed
        .labels
        .as_ref()
        .and_then(|labels| labels.get(TOKEN));
    let wanted = child.manifest["metadata"]["labels"][TOKEN].as_str();
    let Some((carried, wanted)) = carried.zip(wanted) else {
        return false;
    };
    let deviation = Deviation {
        field: format!("metadata.labels.{TOKEN}"),
        value: Some(carried.clone()),
    };
    child.kind == Kind::Lease && carried != wanted && !accepted.contains(&deviation)
}

/// Whether a drifted child was edited, rather than applied from another spec or by an earlier
/// version of the operator. The Lease has no hash: there the spec may have changed the labels and
/// annotations that it sets, and an earlier version did not set the label [`NAME`].
fn was_edited(child: &Child, observed: &ObjectMeta) -> bool {
    let hash = child.manifest["metadata"]["annotations"][APPLIED].as_str();
    let annotations = observed.annotations.as_ref();
    let carried = annotations.and_then(|annotations| annotations.get(APPLIED));
    let is_by_spec = |d: &Deviation| {
        let is_name = d.value.is_none() && d.field.ends_with(NAME);
        is_name || key_of_the_spec(&d.field).is_some()
    };
    match (hash, carried) {
        (None, _) => !deviations(child, observed).iter().all(is_by_spec),
        (_, carried) => carried.is_none_or(|carried| hash == Some(carried)),
    }
}

/// Whether the operator created `observed` for a GatewayQueue of this name, and no controller
/// owns it.
pub fn is_orphan(owner: &Owner, observed: &ObjectMeta) -> bool {
    origin(owner, observed) == Origin::Orphan
}

/// Whether this GatewayQueue owns `observed`, which is not being deleted.
pub fn is_ours(owner: &Owner, observed: &ObjectMeta) -> bool {
    origin(owner, observed) == Origin::Ours && observed.deletion_timestamp.is_none()
}

/// Whether `observed`, of a kind that is not desired, is ours and is not being deleted.
pub fn is_leftover(owner: &Owner, observed: &ObjectMeta) -> bool {
    matches!(origin(owner, observed), Origin::Ours | Origin::Orphan)
        && observed.deletion_timestamp.is_none()
}

/// Returns the fields of `child` that differ from what was applied: labels and annotations with
/// another value (the API server stores these as they are), and fields that the operator no
/// longer owns.
pub fn deviations(child: &Child, observed: &ObjectMeta) -> BTreeSet<Deviation> {
    let mut found = BTreeSet::new();
    values(&child.manifest["metadata"], observed, &mut found);
    let owned: Vec<&Value> = fields_of_the_operator(observed).collect();
    let mut walk = Walk {
        path: Vec::new(),
        found: &mut found,
    };
    walk.manifest(&owned, &child.manifest);
    found.extend(no_longer_desired(child, observed));
    found
}

/// Returns the labels and annotations of the spec that were applied and are no longer desired. Only
/// of a Lease: for the others, the hash shows it.
pub fn no_longer_desired(child: &Child, observed: &ObjectMeta) -> BTreeSet<Deviation> {
    let mut found = BTreeSet::new();
    if child.kind != Kind::Lease {
        return found;
    }
    let desired = &child.manifest["metadata"];
    let owned: Vec<&Value> = fields_of_the_operator(observed).collect();
    let metadata = step(&owned, "f:metadata");
    for (field, observed) in maps(observed) {
        let owned = step(&metadata, &format!("f:{field}"));
        let keys = owned.iter().filter_map(|keys| keys.as_object()).flatten();
        let keys = keys.filter_map(|(key, _)| key.strip_prefix("f:"));
        for key in keys.filter(|key| desired[field][*key].is_null()) {
            let value = observed.and_then(|map| map.get(key)).cloned();
            let field = format!("metadata.{field}.{key}");
            if value.is_some() && key_of_the_spec(&field).is_some() {
                found.insert(Deviation { field, value });
            }
        }
    }
    found
}

/// The key of a label or annotation that a spec may set.
fn key_of_the_spec(field: &str) -> Option<&str> {
    let field = field.strip_prefix("metadata.")?;
    let (map, key) = field.split_once('.')?;
    let is_ours = is_reserved(key) || (map == "labels" && is_well_known(key));
    (matches!(map, "labels" | "annotations") && !is_ours).then_some(key)
}

fn maps(observed: &ObjectMeta) -> [(&'static str, Option<&BTreeMap<String, String>>); 2] {
    [
        ("labels", observed.labels.as_ref()),
        ("annotations", observed.annotations.as_ref()),
    ]
}

fn values(desired: &Value, observed: &ObjectMeta, found: &mut BTreeSet<Deviation>) {
    for (field, observed) in maps(observed) {
        for (key, desired) in desired[field].as_object().into_iter().flatten() {
            let value = observed.and_then(|map| map.get(key));
            if value.map(String::as_str) != desired.as_str() {
                found.insert(Deviation {
                    field: format!("metadata.{field}.{key}"),
                    value: value.cloned(),
                });
            }
        }
    }
}

/// The sets of fields that the operator owns, in the notation of `fieldsV1`. They include its
/// entry as an updater: if a webhook changes what the operator applies, the API server records
/// the change there, and a revert would be changed again.
fn fields_of_the_operator(observed: &ObjectMeta) -> impl Iterator<Item = &Value> {
    let entries = observed.managed_fields.as_deref().unwrap_or_default();
    entries
        .iter()
        .filter(|entry| is_of_the_operator(entry))
        .filter_map(|e| Some(&e.fields_v1.as_ref()?.0))
}

fn is_of_the_operator(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(MANAGER) && entry.subresource.is_none()
}

/// Finds the fields that the operator does not own. `owned` are the sets of fields at the current
/// path: the operator owns their union.
struct Walk<'a> {
    path: Vec<String>,
    found: &'a mut BTreeSet<Deviation>,
}

impl Walk<'_> {
    fn manifest(&mut self, owned: &[&Value], manifest: &Value) {
        for (name, value) in manifest.as_object().into_iter().flatten() {
            match (name.as_str(), value) {
                // These have no owner.
                ("apiVersion" | "kind", _) => {}
                ("metadata", Value::Object(metadata)) => {
                    let owned = step(owned, "f:metadata");
                    self.at("metadata", |walk| {
                        for (name, value) in metadata {
                            if !matches!(name.as_str(), "name" | "namespace") {
                                walk.metadata(&owned, name, value);
                            }
                        }
                    });
                }
                _ => self.field(owned, name, value),
            }
        }
    }

    /// A field of the metadata. Its maps and lists are owned entry by entry: if another client
    /// takes over the only owner of a created Lease, the remaining empty set is that of the list
    /// and not of its items.
    fn metadata(&mut self, owned: &[&Value], name: &str, value: &Value) {
        let below = step(owned, &format!("f:{name}"));
        self.at(name, |walk| match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    walk.field(&below, name, value);
                }
            }
            Value::Array(items) => walk.items(&below, items),
            _ if below.is_empty() => walk.note(),
            _ => {}
        });
    }

    fn field(&mut self, owned: &[&Value], name: &str, value: &Value) {
        let below = step(owned, &format!("f:{name}"));
        self.at(name, |walk| walk.owned(&below, value));
    }

    fn owned(&mut self, owned: &[&Value], value: &Value) {
        if owned.is_empty() {
            return self.note();
        }
        // An empty set means that the whole field is owned.
        let is_leaf = |set: &&Value| set.as_object().is_none_or(Map::is_empty);
        if owned.iter().any(is_leaf) {
            return;
        }
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    self.field(owned, name, value);
                }
            }
            Value::Array(items) => self.items(owned, items),
            _ => {}
        }
    }

    /// The items of a list of values (`v:…`) or of objects with keys (`k:…`).
    fn items(&mut self, owned: &[&Value], items: &[Value]) {
        for (place, item) in items.iter().enumerate() {
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
            self.at(&place.to_string(), |walk| walk.owned(&below, item));
        }
    }

    fn at(&mut self, step: &str, visit: impl FnOnce(&mut Self)) {
        self.path.push(step.to_owned());
        visit(self);
        self.path.pop();
    }

    fn note(&mut self) {
        self.found.insert(Deviation {
            field: self.path.join("."),
            value: None,
        });
    }
}

/// Whether an item has these keys. A key that the item omits has the default of the API server,
/// and does not count.
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
