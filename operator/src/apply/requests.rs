//! The calls that the operator makes, each with a time limit and counted.

use std::time::Duration;

use gateway_queue_telemetry::chain;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::Client;
use kube::api::{
    Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions,
};
use kube::core::Status;
use serde_json::{Value, json};

use crate::MANAGER;
use crate::api::{GatewayQueue, GatewayQueueSpec, GatewayQueueStatus};
use crate::apply::drift::overwrite;
use crate::desired::{Child, Kind, Owner, first_lease};
use crate::metrics::{Metrics, Verb};

/// A reconcile does not wait for longer: the controller tries it again.
const LIMIT: Duration = Duration::from_secs(10);

/// The version of no object. An apply that names it creates an object where there
/// is none, and is a conflict with one that is there: an apply alone would share a
/// stranger's object with it.
const NO_VERSION: &str = "1";

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer in time.
    #[error("no answer within {}s to: {call}", LIMIT.as_secs())]
    TimedOut {
        /// What was called.
        call: String,
    },
    /// An answer that says no, or none at all.
    #[error("cannot {call}: {}", words(source))]
    Failed {
        /// What was called.
        call: String,
        /// What came back.
        source: Box<kube::Error>,
    },
}

impl Error {
    /// What the API server said, when it understood the call and will not do
    /// it until somebody changes something.
    pub fn refusal(&self) -> Option<&str> {
        let status = self.status()?;
        matches!(status.code, 400 | 403 | 422).then_some(status.message.as_str())
    }

    /// Whether the namespace is on its way out, in which nothing is made any more.
    pub fn namespace_ends(&self) -> bool {
        let details = self.status().and_then(|status| status.details.as_ref());
        let mut causes = details.into_iter().flat_map(|details| &details.causes);
        causes.any(|cause| cause.reason == "NamespaceTerminating")
    }

    /// Whether somebody else was quicker.
    pub(crate) fn is_conflict(&self) -> bool {
        self.status().is_some_and(|status| status.code == 409)
    }

    fn is_missing(&self) -> bool {
        self.status().is_some_and(|status| status.code == 404)
    }

    fn is_invalid(&self) -> bool {
        self.status().is_some_and(|status| status.code == 422)
    }

    fn status(&self) -> Option<&Status> {
        match self {
            Self::Failed { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            Self::TimedOut { .. } => None,
        }
    }
}

/// The API server's own words, without what kube prints around them.
pub(crate) fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => chain(other),
    }
}

/// Makes the calls.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    metrics: Metrics,
}

impl Cluster {
    /// Calls by `client`.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, metrics }
    }

    /// The metadata of the object that has a child's name, whoever made it.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn find(&self, kind: Kind, owner: &Owner) -> Result<Option<ObjectMeta>, Error> {
        let api = self.objects(kind, owner);
        let call = || format!("look for the {}", of(kind, owner));
        self.limit(Verb::Get, call, api.get_metadata_opt(&owner.name))
            .await
            .map(|found| found.map(|object| object.metadata))
    }

    /// Whether the GatewayQueue of `owner` exists and is not being deleted. Not by a cache,
    /// which may lag behind.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn is_current(&self, owner: &Owner) -> Result<bool, Error> {
        let api: Api<GatewayQueue> = Api::namespaced(self.client.clone(), &owner.namespace);
        // The operator has no right to `get` one.
        let this = ListParams::default().fields(&format!("metadata.name={}", owner.name));
        let call = || {
            format!(
                "look for the GatewayQueue {}/{}",
                owner.namespace, owner.name
            )
        };
        let found = self
            .limit(Verb::Get, call, api.list_metadata(&this))
            .await?;
        Ok(found.items.iter().any(|queue| {
            let metadata = &queue.metadata;
            metadata.uid.as_ref() == Some(&owner.uid) && metadata.deletion_timestamp.is_none()
        }))
    }

    /// Creates a child, and returns the metadata that it got. When somebody made an object
    /// of this name a moment ago, that is a conflict, and nothing of it is touched.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn create(&self, child: &Child, owner: &Owner) -> Result<ObjectMeta, Error> {
        let parameters = PatchParams::apply(MANAGER);
        let mut manifest = child.manifest.clone();
        manifest["metadata"]["resourceVersion"] = json!(NO_VERSION);
        let apply = Patch::Apply(&manifest);
        self.patch(child.kind, owner, &apply, &parameters).await
    }

    /// Creates the Lease of a GatewayQueue that never had a leader, unless there
    /// is one by now.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn create_first_lease(
        &self,
        owner: &Owner,
        spec: &GatewayQueueSpec,
    ) -> Result<ObjectMeta, Error> {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), &owner.namespace);
        let lease = first_lease(owner, spec);
        let by_us = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        let call = || format!("create the {}", of(Kind::Lease, owner));
        self.limit(Verb::Create, call, api.create(&by_us, &lease))
            .await
            .map(|lease| lease.metadata)
    }

    /// Deletes a child that is not wanted any more, if it still is the object
    /// `uid`.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn delete(&self, kind: Kind, owner: &Owner, uid: Option<&str>) -> Result<(), Error> {
        let api = self.objects(kind, owner);
        let this_one = DeleteParams::background().preconditions(Preconditions {
            uid: uid.map(str::to_owned),
            resource_version: None,
        });
        let call = || format!("delete the {}", of(kind, owner));
        let deleted = self
            .limit(Verb::Delete, call, api.delete(&owner.name, &this_one))
            .await;
        match deleted {
            Err(error) if error.is_missing() => Ok(()),
            result => result.map(|_| ()),
        }
    }

    /// Reapplies the desired state of a child, if it still is the object `uid`, and returns
    /// the metadata that it has then.
    ///
    /// # Errors
    /// When a call fails.
    pub async fn repair(
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
        match self.patch(child.kind, owner, &apply, &force).await {
            Err(error) if error.is_invalid() => {}
            result => return result,
        }
        let overwrite = overwrite(&manifest);
        let overwrite = Patch::Merge(&overwrite);
        let by_us = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let written = self.patch(child.kind, owner, &overwrite, &by_us).await?;
        // What was written over is the operator's as an updater now, and would stay
        // when a later spec does not apply it any more.
        let disowned = json!({"metadata": {"uid": uid, "managedFields": applied_fields(&written)}});
        self.patch(child.kind, owner, &Patch::Merge(&disowned), &by_us)
            .await?;
        self.patch(child.kind, owner, &apply, &force).await
    }

    async fn patch(
        &self,
        kind: Kind,
        owner: &Owner,
        patch: &Patch<&Value>,
        parameters: &PatchParams,
    ) -> Result<ObjectMeta, Error> {
        let api = self.objects(kind, owner);
        let call = || format!("apply the {}", of(kind, owner));
        self.limit(Verb::Patch, call, api.patch(&owner.name, parameters, patch))
            .await
            .map(|object| object.metadata)
    }

    /// Writes the status of a GatewayQueue, if it still is the object of
    /// `owner`. What others wrote into it goes.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn write_status(
        &self,
        owner: &Owner,
        status: &GatewayQueueStatus,
    ) -> Result<(), Error> {
        let api: Api<GatewayQueue> = Api::namespaced(self.client.clone(), &owner.namespace);
        let call = || {
            format!(
                "write the status of GatewayQueue {}/{}",
                owner.namespace, owner.name
            )
        };
        // Neither an apply, which leaves the fields of others, so that the status
        // would never be the desired one, nor a merge, for which the API server
        // does not look at the uid when it writes a status.
        let patch = json!([
            {"op": "test", "path": "/metadata/uid", "value": owner.uid},
            {"op": "add", "path": "/status", "value": status},
        ]);
        let by_us = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patched = async {
            let patch = serde_json::from_value(patch).map_err(kube::Error::SerdeError)?;
            let patch: Patch<()> = Patch::Json(patch);
            api.patch_status(&owner.name, &by_us, &patch).await
        };
        self.limit(Verb::PatchStatus, call, patched)
            .await
            .map(|_| ())
    }

    fn objects(&self, kind: Kind, owner: &Owner) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &owner.namespace, &kind.resource())
    }

    async fn limit<T>(
        &self,
        verb: Verb,
        call: impl Fn() -> String,
        answer: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Error> {
        self.metrics.called(verb);
        match tokio::time::timeout(LIMIT, answer).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(source)) => Err(Error::Failed {
                call: call(),
                source: Box::new(source),
            }),
            Err(_) => Err(Error::TimedOut { call: call() }),
        }
    }
}

/// The entries of managed fields, less what the operator holds as an updater.
fn applied_fields(written: &ObjectMeta) -> Vec<ManagedFieldsEntry> {
    let entries = written.managed_fields.iter().flatten();
    let is_ours = |entry: &ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(MANAGER)
            && entry.operation.as_deref() == Some("Update")
            && entry.subresource.is_none()
    };
    entries.filter(|entry| !is_ours(entry)).cloned().collect()
}

fn of(kind: Kind, owner: &Owner) -> String {
    format!("{} {}/{}", kind.as_str(), owner.namespace, owner.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_operator_wrote_over_is_let_go_and_nothing_else() {
        let written: ObjectMeta = serde_json::from_value(json!({"managedFields": [
            {"manager": MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {}}},
            {"manager": MANAGER, "operation": "Update", "fieldsV1": {"f:spec": {}}},
            {"manager": MANAGER, "operation": "Update", "subresource": "status"},
            {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {}}},
        ]}))
        .unwrap();
        let left = applied_fields(&written);
        let left = left.iter().map(|entry| {
            let text = |field: &Option<String>| field.clone().unwrap_or_default();
            let (operation, part) = (text(&entry.operation), text(&entry.subresource));
            format!("{} {operation} {part}", text(&entry.manager))
        });
        let operator = |what: &str| format!("{MANAGER} {what}");
        assert_eq!(
            left.collect::<Vec<_>>(),
            [
                operator("Apply "),
                operator("Update status"),
                "kubectl Update ".to_owned()
            ]
        );
    }
}
