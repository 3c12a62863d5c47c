//! The objects in the watched namespaces, as last observed.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::try_join_all;
use futures::{FutureExt as _, TryFutureExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::reflector::store::{Writer, WriterDropped};
use kube::runtime::reflector::{ObjectRef, Store, store};

use crate::desired::{Kind, Owner};
use crate::observe::child::ObservedChild;
use crate::observe::deployment::ObservedDeployment;
use crate::observe::lease::ObservedLease;
use crate::observe::lease_observer::LeaseObserver;
use crate::observe::pod::ObservedPod;

/// The observed objects. Of most kinds, only the metadata is kept.
#[derive(Clone)]
pub struct Caches {
    metadata: HashMap<Kind, Store<ObservedChild>>,
    leases: Store<ObservedLease>,
    deployments: Store<ObservedDeployment>,
    pods: Store<ObservedPod>,
    /// When each Lease changed.
    pub lease_observer: Arc<LeaseObserver>,
}

/// What fills [`Caches`].
#[allow(missing_docs, reason = "one for each cache")]
pub struct Writers {
    pub metadata: HashMap<Kind, Writer<ObservedChild>>,
    pub leases: Writer<ObservedLease>,
    pub deployments: Writer<ObservedDeployment>,
    pub pods: Writer<ObservedPod>,
}

impl Caches {
    /// Returns empty caches, and what fills them.
    pub fn new() -> (Self, Writers) {
        let (leases, lease_writer) = store();
        let (deployments, deployment_writer) = store();
        let (pods, pod_writer) = store();
        let metadata = Kind::ALL
            .iter()
            .filter(|kind| !matches!(kind, Kind::Lease | Kind::Deployment))
            .map(|kind| (*kind, Writer::new(*kind)));
        let writers = Writers {
            metadata: metadata.collect(),
            leases: lease_writer,
            deployments: deployment_writer,
            pods: pod_writer,
        };
        let stores = writers.metadata.iter();
        let caches = Self {
            metadata: stores
                .map(|(kind, writer)| (*kind, writer.as_reader()))
                .collect(),
            leases,
            deployments,
            pods,
            lease_observer: Arc::default(),
        };
        (caches, writers)
    }

    /// Waits until every kind has been listed once.
    ///
    /// # Errors
    /// If a watch ended before.
    pub async fn wait_until_ready(&self) -> Result<(), WriterDropped> {
        let metadata = self.metadata.values();
        let metadata = metadata.map(|store| store.wait_until_ready().boxed());
        let others = [
            self.leases.wait_until_ready().boxed(),
            self.deployments.wait_until_ready().boxed(),
            self.pods.wait_until_ready().boxed(),
        ];
        try_join_all(metadata.chain(others)).map_ok(|_| ()).await
    }

    /// The metadata of a child with the operator's label.
    pub fn metadata(&self, kind: Kind, owner: &Owner) -> Option<ObjectMeta> {
        match kind {
            Kind::Lease => self.lease(owner).map(|lease| lease.metadata.parsed()),
            Kind::Deployment => self
                .deployment(owner)
                .map(|deployment| deployment.metadata.parsed()),
            kind => {
                let store = self.metadata.get(&kind)?;
                let name = ObjectRef::new_with(&kind.name_for(owner), kind);
                let object = store.get(&name.within(&owner.namespace))?;
                Some(object.metadata.parsed())
            }
        }
    }

    /// The Deployment of a GatewayQueue.
    pub fn deployment(&self, owner: &Owner) -> Option<Arc<ObservedDeployment>> {
        let name = ObjectRef::new(&Kind::Deployment.name_for(owner)).within(&owner.namespace);
        self.deployments.get(&name)
    }

    /// The Lease of a GatewayQueue.
    pub fn lease(&self, owner: &Owner) -> Option<Arc<ObservedLease>> {
        let name = ObjectRef::new(&Kind::Lease.name_for(owner)).within(&owner.namespace);
        self.leases.get(&name)
    }

    /// The pods of a GatewayQueue.
    pub fn pods(&self, owner: &Owner) -> Vec<Arc<ObservedPod>> {
        self.pods.state_filter(|pod| {
            pod.metadata.namespace.as_ref() == Some(&owner.namespace)
                && pod.instance() == Some(owner.name.as_str())
        })
    }

    /// The Deployments of all GatewayQueues.
    pub fn all_deployments(&self) -> Vec<Arc<ObservedDeployment>> {
        self.deployments.state()
    }

    /// The pods of all GatewayQueues.
    pub fn all_pods(&self) -> Vec<Arc<ObservedPod>> {
        self.pods.state()
    }
}
