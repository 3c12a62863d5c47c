//! The operator's requests to the API server, each counted and with a time limit.

use std::time::Duration;

use gateway_queue_telemetry::chain;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{
    Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions,
};
use kube::core::Status;
use serde_json::{Value, json};

use crate::MANAGER;
use crate::api::{GatewayQueue, GatewayQueueSpec, GatewayQueueStatus, Stored};
use crate::desired::{Child, Kind, Owner, first_lease};
use crate::metrics::{Metrics, Verb};

/// The time limit of a request. The controller retries the reconcile.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A version that no object has. An apply with it creates an object, and conflicts with an
/// existing one; an apply without it would write to an object that is not ours.
const NO_VERSION: &str = "1";

/// A failed request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not answer in time.
    #[error("cannot {request}: no answer within {} s", TIMEOUT.as_secs())]
    TimedOut {
        /// The request, as a verb and its object.
        request: String,
    },
    /// The API server answered with an error, or could not be reached.
    #[error("cannot {request}: {}", describe(source))]
    Failed {
        /// The request, as a verb and its object.
        request: String,
        /// The response.
        source: Box<kube::Error>,
    },
}

impl Error {
    /// The message of the API server, if it rejected the request and would reject it again.
    pub fn rejection(&self) -> Option<&str> {
        let status = self.status()?;
        matches!(status.code, 400 | 403 | 422).then_some(status.message.as_str())
    }

    /// Whether the namespace is terminating, so that nothing can be created in it.
    pub fn namespace_terminates(&self) -> bool {
        let details = self.status().and_then(|status| status.details.as_ref());
        let mut causes = details.into_iter().flat_map(|details| &details.causes);
        causes.any(|cause| cause.reason == "NamespaceTerminating")
    }

    pub(super) fn is_conflict(&self) -> bool {
        self.has_code(409)
    }

    pub(super) fn is_invalid(&self) -> bool {
        self.has_code(422)
    }

    fn has_code(&self, code: u16) -> bool {
        self.status().is_some_and(|status| status.code == code)
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

/// The message of the API server, without what kube prints around it.
pub(crate) fn describe(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => chain(other),
    }
}

/// Makes the requests.
#[derive(Clone)]
pub struct Requests {
    client: Client,
    metrics: Metrics,
}

impl Requests {
    /// Makes requests with `client`.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, metrics }
    }

    /// Returns the metadata of the object with a child's name, whoever owns it.
    ///
    /// # Errors
    /// If the request fails.
    pub async fn find(&self, kind: Kind, owner: &Owner) -> Result<Option<ObjectMeta>, Error> {
        let api = self.objects(kind, owner);
        let request = || format!("get {}", name(kind, owner));
        self.timed(
            Verb::Get,
            request,
            api.get_metadata_opt(&kind.name_for(owner)),
        )
        .await
        .map(|found| found.map(|object| object.metadata))
    }

    /// Whether the GatewayQueue of `owner` exists and is not being deleted. The cache may lag
    /// behind, so the API server is asked.
    ///
    /// # Errors
    /// If the request fails.
    pub async fn is_current(&self, owner: &Owner) -> Result<bool, Error> {
        let api: Api<GatewayQueue> = Api::namespaced(self.client.clone(), &owner.namespace);
        // The operator has no right to `get`.
        let this = ListParams::default().fields(&format!("metadata.name={}", owner.name));
        let request = || format!("list GatewayQueue {}/{}", owner.namespace, owner.name);
        let found = self
            .timed(Verb::Get, request, api.list_metadata(&this))
            .await?;
        Ok(found.items.iter().any(|queue| {
            let metadata = &queue.metadata;
            metadata.uid.as_ref() == Some(&owner.uid) && metadata.deletion_timestamp.is_none()
        }))
    }

    /// Creates a child and returns its metadata. If an object of this name exists by now, the
    /// request is a conflict and changes nothing.
    ///
    /// # Errors
    /// If the request fails.
    pub async fn create(&self, child: &Child, owner: &Owner) -> Result<ObjectMeta, Error> {
        let parameters = PatchParams::apply(MANAGER);
        let mut manifest = child.manifest.clone();
        manifest["metadata"]["resourceVersion"] = json!(NO_VERSION);
        let apply = Patch::Apply(&manifest);
        self.patch(child.kind, owner, &apply, &parameters).await
    }

    /// Creates the Lease of a GatewayQueue that never had a leader, unless it exists by now.
    ///
    /// # Errors
    /// If the request fails.
    pub async fn create_first_lease(
        &self,
        owner: &Owner,
        spec: &GatewayQueueSpec,
    ) -> Result<ObjectMeta, Error> {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), &owner.namespace);
        let lease = first_lease(owner, spec);
        let parameters = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        let request = || format!("create {}", name(Kind::Lease, owner));
        self.timed(Verb::Create, request, api.create(&parameters, &lease))
            .await
            .map(|lease| lease.metadata)
    }

    /// Deletes a child, if it is still the object `uid`.
    ///
    /// # Errors
    /// If the request fails.
    pub async fn delete(&self, kind: Kind, owner: &Owner, uid: Option<&str>) -> Result<(), Error> {
        let api = self.objects(kind, owner);
        let this_one = DeleteParams::background().preconditions(Preconditions {
            uid: uid.map(str::to_owned),
            resource_version: None,
        });
        let request = || format!("delete {}", name(kind, owner));
        let deleted = self
            .timed(
                Verb::Delete,
                request,
                api.delete(&kind.name_for(owner), &this_one),
            )
            .await;
        match deleted {
            Err(error) if error.has_code(404) => Ok(()),
            result => result.map(|_| ()),
        }
    }

    pub(super) async fn patch(
        &self,
        kind: Kind,
        owner: &Owner,
        patch: &Patch<&Value>,
        parameters: &PatchParams,
    ) -> Result<ObjectMeta, Error> {
        let api = self.objects(kind, owner);
        let request = || format!("apply {}", name(kind, owner));
        self.timed(
            Verb::Patch,
            request,
            api.patch_metadata(&kind.name_for(owner), parameters, patch),
        )
        .await
        .map(|object| object.metadata)
    }

    /// Replaces the status of a GatewayQueue, if it is still the object of `owner`.
    ///
    /// # Errors
    /// If the request fails.
    pub async fn write_status(
        &self,
        owner: &Owner,
        status: &GatewayQueueStatus,
    ) -> Result<(), Error> {
        // Its spec may be unreadable.
        let api: Api<Stored> = Api::namespaced(self.client.clone(), &owner.namespace);
        let request = || {
            format!(
                "write the status of GatewayQueue {}/{}",
                owner.namespace, owner.name
            )
        };
        // An apply would leave the fields of others. With a merge patch of a status, the API
        // server does not check the UID.
        let patch = json!([
            {"op": "test", "path": "/metadata/uid", "value": owner.uid},
            {"op": "add", "path": "/status", "value": status},
        ]);
        let parameters = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patched = async {
            let patch = serde_json::from_value(patch).map_err(kube::Error::SerdeError)?;
            let patch: Patch<()> = Patch::Json(patch);
            api.patch_status(&owner.name, &parameters, &patch).await
        };
        self.timed(Verb::PatchStatus, request, patched)
            .await
            .map(|_| ())
    }

    fn objects(&self, kind: Kind, owner: &Owner) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &owner.namespace, &kind.resource())
    }

    async fn timed<T>(
        &self,
        verb: Verb,
        request: impl Fn() -> String,
        response: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Error> {
        self.metrics.requested(verb);
        match tokio::time::timeout(TIMEOUT, response).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(source)) => Err(Error::Failed {
                request: request(),
                source: Box::new(source),
            }),
            Err(_) => Err(Error::TimedOut { request: request() }),
        }
    }
}

fn name(kind: Kind, owner: &Owner) -> String {
    format!(
        "{} {}/{}",
        kind.as_str(),
        owner.namespace,
        kind.name_for(owner)
    )
}
