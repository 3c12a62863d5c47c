//! The metadata of an observed object, in little memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::MANAGER;

/// The metadata of an observed object, except for fields that the operator does not read.
///
/// Only what identifies the object is kept parsed. The maps of an [`ObjectMeta`], above all those of
/// `managedFields`, take many times the memory of their JSON. They are read only by reconciles, and
/// a cache exists twice while it is filled again.
#[derive(Clone, Debug, Default)]
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
        // It was written by `of`.
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

    fn of(metadata: ObjectMeta) -> serde_json::Result<Self> {
        let mut managed_fields = metadata.managed_fields.unwrap_or_default();
        managed_fields.retain(|entry| {
            entry.manager.as_deref() == Some(MANAGER) && entry.subresource.is_none()
        });
        for entry in &mut managed_fields {
            entry.time = None;
        }
        let rest = ObjectMeta {
            labels: metadata.labels,
            annotations: metadata.annotations,
            owner_references: metadata.owner_references,
            deletion_timestamp: metadata.deletion_timestamp,
            managed_fields: Some(managed_fields),
            ..ObjectMeta::default()
        };
        let identity = ObjectMeta {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            generation: metadata.generation,
            ..ObjectMeta::default()
        };
        Ok(Self {
            identity,
            rest: serde_json::to_string(&rest)?.into(),
        })
    }
}

impl<'de> Deserialize<'de> for CompactMetadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(ObjectMeta::deserialize(deserializer)?).map_err(D::Error::custom)
    }
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
                {"manager": MANAGER, "operation": "Apply", "fieldsType": "FieldsV1",
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
