//! The children of all GatewayQueues in the watched namespaces, as last seen.

use std::sync::Arc;

use futures::future::try_join_all;
use futures::{FutureExt as _, TryFutureExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PartialObjectMeta;
use kube::runtime::reflector::store::{Writer, WriterDropped};
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::{Resource, ResourceExt as _};

use crate::desired::{INSTANCE, Kind, Owner};
use crate::sightings::Sightings;

/// The children that are there. Of most kinds the metadata is enough.
#[derive(Clone)]
pub struct Stores {
    service_accounts: Store<PartialObjectMeta<ServiceAccount>>,
    roles: Store<PartialObjectMeta<Role>>,
    role_bindings: Store<PartialObjectMeta<RoleBinding>>,
    services: Store<PartialObjectMeta<Service>>,
    disruption_budgets: Store<PartialObjectMeta<PodDisruptionBudget>>,
    network_policies: Store<PartialObjectMeta<NetworkPolicy>>,
    leases: Store<Lease>,
    deployments: Store<Deployment>,
    pods: Store<Pod>,
    /// When each Lease was seen to change.
    pub sightings: Arc<Sightings>,
}

/// The other ends of [`Stores`].
#[allow(missing_docs, reason = "one for each kind")]
pub struct Writers {
    pub service_accounts: Writer<PartialObjectMeta<ServiceAccount>>,
    pub roles: Writer<PartialObjectMeta<Role>>,
    pub role_bindings: Writer<PartialObjectMeta<RoleBinding>>,
    pub services: Writer<PartialObjectMeta<Service>>,
    pub disruption_budgets: Writer<PartialObjectMeta<PodDisruptionBudget>>,
    pub network_policies: Writer<PartialObjectMeta<NetworkPolicy>>,
    pub leases: Writer<Lease>,
    pub deployments: Writer<Deployment>,
    pub pods: Writer<Pod>,
}

impl Stores {
    /// Empty stores, and what fills them.
    pub fn new() -> (Self, Writers) {
        let (service_accounts, service_account_writer) = store();
        let (roles, role_writer) = store();
        let (role_bindings, role_binding_writer) = store();
        let (services, service_writer) = store();
        let (disruption_budgets, disruption_budget_writer) = store();
        let (network_policies, network_policy_writer) = store();
        let (leases, lease_writer) = store();
        let (deployments, deployment_writer) = store();
        let (pods, pod_writer) = store();
        let stores = Self {
            service_accounts,
            roles,
            role_bindings,
            services,
            disruption_budgets,
            network_policies,
            leases,
            deployments,
            pods,
            sightings: Arc::default(),
        };
        let writers = Writers {
            service_accounts: service_account_writer,
            roles: role_writer,
            role_bindings: role_binding_writer,
            services: service_writer,
            disruption_budgets: disruption_budget_writer,
            network_policies: network_policy_writer,
            leases: lease_writer,
            deployments: deployment_writer,
            pods: pod_writer,
        };
        (stores, writers)
    }

    /// Waits until every kind has been listed once.
    ///
    /// # Errors
    /// When a watch ended before that.
    pub async fn wait_until_ready(&self) -> Result<(), WriterDropped> {
        let Self {
            service_accounts,
            roles,
            role_bindings,
            services,
            disruption_budgets,
            network_policies,
            leases,
            deployments,
            pods,
            sightings: _,
        } = self;
        try_join_all([
            service_accounts.wait_until_ready().boxed(),
            roles.wait_until_ready().boxed(),
            role_bindings.wait_until_ready().boxed(),
            services.wait_until_ready().boxed(),
            disruption_budgets.wait_until_ready().boxed(),
            network_policies.wait_until_ready().boxed(),
            leases.wait_until_ready().boxed(),
            deployments.wait_until_ready().boxed(),
            pods.wait_until_ready().boxed(),
        ])
        .map_ok(|_| ())
        .await
    }

    /// The metadata of a child, when the child carries the operator's label.
    pub fn metadata(&self, kind: Kind, owner: &Owner) -> Option<ObjectMeta> {
        match kind {
            Kind::ServiceAccount => metadata(&self.service_accounts, owner),
            Kind::Role => metadata(&self.roles, owner),
            Kind::RoleBinding => metadata(&self.role_bindings, owner),
            Kind::Service => metadata(&self.services, owner),
            Kind::PodDisruptionBudget => metadata(&self.disruption_budgets, owner),
            Kind::NetworkPolicy => metadata(&self.network_policies, owner),
            Kind::Lease => metadata(&self.leases, owner),
            Kind::Deployment => metadata(&self.deployments, owner),
        }
    }

    /// The Deployment of a GatewayQueue.
    pub fn deployment(&self, owner: &Owner) -> Option<Arc<Deployment>> {
        of(&self.deployments, owner)
    }

    /// The Lease of a GatewayQueue.
    pub fn lease(&self, owner: &Owner) -> Option<Arc<Lease>> {
        of(&self.leases, owner)
    }

    /// The pods of a GatewayQueue.
    pub fn pods(&self, owner: &Owner) -> Vec<Arc<Pod>> {
        let is_its = |pod: &Pod| {
            pod.metadata.namespace.as_ref() == Some(&owner.namespace)
                && instance(pod).is_some_and(|name| name == owner.name)
        };
        self.pods
            .state()
            .into_iter()
            .filter(|pod| is_its(pod))
            .collect()
    }
}

/// The name of the GatewayQueue of a pod.
pub(crate) fn instance(pod: &Pod) -> Option<&str> {
    pod.labels().get(INSTANCE).map(String::as_str)
}

fn of<K>(store: &Store<K>, owner: &Owner) -> Option<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.get(&ObjectRef::new(&owner.name).within(&owner.namespace))
}

fn metadata<K>(store: &Store<K>, owner: &Owner) -> Option<ObjectMeta>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    of(store, owner).map(|object| object.meta().clone())
}
