//! Reverts a child that another client edited, for example a Service with another port.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::drift::{Deviation, no_longer_desired};
use super::requests::{Error, Requests};
use crate::MANAGER;
use crate::desired::{Child, Owner};

impl Requests {
    /// Applies the desired state of a child again, if it is still the object `uid`. Returns
    /// its metadata.
    ///
    /// A forced apply reverts most edits. It fails if another client changed the key of a
    /// list item, for example the port of a Service: the changed item is not ours, so an
    /// apply does not remove it, and both items together are invalid. Then the whole child is
    /// overwritten by a merge patch.
    ///
    /// # Errors
    /// If a call fails.
    pub async fn revert(
        &self,
        child: &Child,
        owner: &Owner,
        uid: Option<&str>,
    ) -> Result<ObjectMeta, Error> {
        let mut manifest = child.manifest.clone();
        if let Some(uid) = uid {
            manifest["metadata"]["uid"] = json!(uid);
        }
        let apply = Patch::Apply(&manifest);
        let force = PatchParams::apply(MANAGER).force();
        let update = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        match self.patch(child.kind, owner, &apply, &force).await {
            Err(error) if error.is_invalid() => {}
            Ok(applied) => {
                let left = no_longer_desired(child, &applied);
                if left.is_empty() {
                    return Ok(applied);
                }
                // They are from the creation of a Lease, which was no apply.
                let removal = removal(&left, uid);
                return self
                    .patch(child.kind, owner, &Patch::Merge(&removal), &update)
                    .await;
            }
            result => return result,
        }
        let overwrite = overwrite(&manifest);
        let overwrite = Patch::Merge(&overwrite);
        let written = self.patch(child.kind, owner, &overwrite, &update).await?;
        // The operator now also owns the fields as an updater: they would stay if a later
        // spec does not apply them.
        let fields = without_updates(&written);
        let disown = json!({"metadata": {"uid": uid, "managedFields": fields}});
        self.patch(child.kind, owner, &Patch::Merge(&disown), &update)
            .await?;
        self.patch(child.kind, owner, &apply, &force).await
    }
}

/// The whole manifest, so that the API server rejects one that is invalid by itself, and no
/// part of it is written; except the owners, a list that others may have added to.
fn overwrite(manifest: &Value) -> Value {
    let mut overwrite = manifest.clone();
    if let Some(metadata) = overwrite["metadata"].as_object_mut() {
        metadata.remove("ownerReferences");
    }
    overwrite
}

/// A merge patch that removes labels and annotations.
fn removal(left: &BTreeSet<Deviation>, uid: Option<&str>) -> Value {
    let mut removal = json!({"metadata": {"uid": uid}});
    for Deviation { field, .. } in left {
        let mut steps = field.splitn(3, '.');
        if let (Some(metadata), Some(map), Some(key)) = (steps.next(), steps.next(), steps.next()) {
            removal[metadata][map][key] = Value::Null;
        }
    }
    removal
}

/// The managed fields except those that the operator owns as an updater.
fn without_updates(written: &ObjectMeta) -> Vec<ManagedFieldsEntry> {
    let entries = written.managed_fields.iter().flatten();
    let is_update = |entry: &ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(MANAGER)
            && entry.operation.as_deref() == Some("Update")
            && entry.subresource.is_none()
    };
    entries.filter(|entry| !is_update(entry)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_overwritten_except_for_its_owners() {
        let manifest = json!({
            "kind": "Service",
            "metadata": {"uid": "0042", "labels": {"a": "b"}, "ownerReferences": [{"uid": "0001"}]},
            "spec": {"type": "ClusterIP", "ports": [{"port": 80}]},
        });
        let mut expected = manifest.clone();
        expected["metadata"] = json!({"uid": "0042", "labels": {"a": "b"}});
        assert_eq!(overwrite(&manifest), expected);
    }

    #[test]
    fn labels_and_annotations_are_removed_by_their_whole_keys() {
        let left = ["labels.example.com/a.b", "annotations.c"].map(|field| Deviation {
            field: format!("metadata.{field}"),
            value: Some("x".to_owned()),
        });
        let expected = json!({"metadata": {
            "uid": "0042", "labels": {"example.com/a.b": null}, "annotations": {"c": null},
        }});
        assert_eq!(removal(&left.into(), Some("0042")), expected);
    }

    #[test]
    fn the_operator_disowns_only_what_it_owns_as_an_updater() {
        let entries = json!([
            {"manager": MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {}}},
            {"manager": MANAGER, "operation": "Update", "fieldsV1": {"f:spec": {}}},
            {"manager": MANAGER, "operation": "Update", "subresource": "status"},
            {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {}}},
        ]);
        let written: ObjectMeta =
            serde_json::from_value(json!({ "managedFields": entries })).unwrap();
        let left = serde_json::to_value(without_updates(&written)).unwrap();
        assert_eq!(left, json!([entries[0], entries[2], entries[3]]));
    }
}
