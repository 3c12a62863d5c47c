//! The metadata of an observed object, in little memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use crate::MANAGER;
use crate::observe::json_text::JsonText;

/// The metadata of an observed object, except for fields that the operator does not read.
///
/// Only what identifies the object is kept parsed. The maps of an [`ObjectMeta`], above all those of
/// `managedFields`, take many times the memory of their JSON. They are read only by reconciles, and
/// a cache exists twice while it is filled again.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "Raw")]
pub struct CompactMetadata {
    /// Name, namespace, UID, resource version and generation.
    pub identity: ObjectMeta,
    /// The other fields, as JSON.
    rest: Arc<str>,
}

impl CompactMetadata {
    /// Returns the parsed metadata.
    pub fn parsed(&self) -> ObjectMeta {
        let identity = self.identity.clone();
        // It is composed of valid fields.
        let rest: ObjectMeta = serde_json::from_str(&self.rest).unwrap_or_default();
        ObjectMeta {
            labels: rest.labels,
            annotations: rest.annotations,
            owner_references: rest.owner_references,
            deletion_timestamp: rest.deletion_timestamp,
            managed_fields: rest.managed_fields,
            ..identity
        }
    }

    /// Returns the annotations.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        #[derive(Default, Deserialize)]
        struct Annotated {
            #[serde(default)]
            annotations: BTreeMap<String, String>,
        }
        let rest: Annotated = serde_json::from_str(&self.rest).unwrap_or_default();
        rest.annotations
    }

    /// Whether it differs from the metadata of another version of the object, except for the
    /// version and the times of writes.
    pub fn differs(&self, other: &Self) -> bool {
        self.identity.uid != other.identity.uid || self.rest != other.rest
    }
}

/// The metadata as it is read: without trees, because a Lease is read with each renewal.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    labels: Option<JsonText>,
    annotations: Option<JsonText>,
    owner_references: Option<JsonText>,
    deletion_timestamp: Option<JsonText>,
    managed_fields: Option<Vec<RawEntry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEntry {
    manager: Option<String>,
    operation: Option<JsonText>,
    api_version: Option<JsonText>,
    subresource: Option<String>,
    fields_v1: Option<JsonText>,
}

impl From<Raw> for CompactMetadata {
    fn from(raw: Raw) -> Self {
        let entries = raw.managed_fields.unwrap_or_default().into_iter();
        let entries = entries
            .filter(|entry| {
                entry.manager.as_deref() == Some(MANAGER) && entry.subresource.is_none()
            })
            .map(|entry| {
                let manager = JsonText(format!("\"{MANAGER}\""));
                object([
                    ("manager", Some(manager)),
                    ("operation", entry.operation),
                    ("apiVersion", entry.api_version),
                    ("fieldsV1", entry.fields_v1),
                ])
            });
        let entries: Vec<String> = entries.collect();
        let managed_fields = JsonText(format!("[{}]", entries.join(",")));
        let rest = object([
            ("labels", raw.labels),
            ("annotations", raw.annotations),
            ("ownerReferences", raw.owner_references),
            ("deletionTimestamp", raw.deletion_timestamp),
            ("managedFields", Some(managed_fields)),
        ]);
        let identity = ObjectMeta {
            name: raw.name,
            namespace: raw.namespace,
            uid: raw.uid,
            resource_version: raw.resource_version,
            generation: raw.generation,
            ..ObjectMeta::default()
        };
        Self {
            identity,
            rest: rest.into(),
        }
    }
}

/// The JSON of an object with those fields that are present.
fn object<const FIELDS: usize>(fields: [(&str, Option<JsonText>); FIELDS]) -> String {
    let mut text = String::with_capacity(1024);
    for (name, value) in fields {
        if let Some(JsonText(value)) = value {
            text.push(if text.is_empty() { '{' } else { ',' });
            text.extend(["\"", name, "\":", &value]);
        }
    }
    if text.is_empty() {
        text.push('{');
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn metadata() -> Value {
        json!({
            "name": "my-bot", "namespace": "shop", "uid": "0042", "resourceVersion": "7",
            "generation": 2,
            "labels": {"gatewayqueue.dev/name": "my-bot"}, "annotations": {"team": "bots"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "x", "name": "x", "uid": "0001"}],
            "deletionTimestamp": "2026-11-23T12:00:00Z",
            "managedFields": [
                {"manager": MANAGER, "operation": "Apply", "apiVersion": "v1",
                 "fieldsV1": {"f:spec": {"f:replicas": {}}}},
            ],
        })
    }

    fn compact(metadata: &Value) -> CompactMetadata {
        serde_json::from_value(metadata.clone()).unwrap()
    }

    #[test]
    fn what_the_operator_reads_is_kept() {
        let expected: ObjectMeta = serde_json::from_value(metadata()).unwrap();
        let compact = compact(&metadata());
        assert_eq!(compact.parsed(), expected);
        assert_eq!(Some(compact.annotations()), expected.annotations);
        assert_eq!(CompactMetadata::default().parsed(), ObjectMeta::default());
        assert_eq!(CompactMetadata::default().annotations(), BTreeMap::new());
    }

    #[test]
    fn the_fields_of_other_managers_and_the_times_of_writes_are_not_kept() {
        let mut full = metadata();
        full["creationTimestamp"] = json!("2026-11-23T11:00:00Z");
        full["managedFields"][0]["time"] = json!("2026-11-23T11:00:00Z");
        let fields = full["managedFields"].as_array_mut().unwrap();
        let field = json!({"f:status": {"f:replicas": {}}});
        fields.push(json!({"manager": "kubectl", "operation": "Update", "fieldsV1": field}));
        fields.push(json!({"manager": MANAGER, "subresource": "status", "fieldsV1": field}));
        assert_eq!(compact(&full).parsed(), compact(&metadata()).parsed());
    }

    #[test]
    fn only_the_version_and_the_times_of_writes_make_no_difference() {
        let differs = |change: fn(&mut Value)| {
            let mut changed = metadata();
            change(&mut changed);
            compact(&metadata()).differs(&compact(&changed))
        };
        assert!(!differs(|metadata| {
            metadata["resourceVersion"] = json!("8");
            metadata["managedFields"][0]["time"] = json!("2026-11-23T11:00:00Z");
        }));
        assert!(differs(|metadata| metadata["uid"] = json!("0043")));
        assert!(differs(
            |metadata| metadata["annotations"]["team"] = json!("x")
        ));
        assert!(differs(
            |metadata| metadata["managedFields"][0]["fieldsV1"] = json!({})
        ));
    }
}
