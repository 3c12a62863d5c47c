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

use crate::desired::{INSTANCE, Kind, Owner, TOKEN};
use crate::observe::lease_observer::LeaseObserver;

/// The children that are there. Of most kinds the metadata is enough.
#[derive(Clone)]
pub struct Caches {
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
    pub lease_observer: Arc<LeaseObserver>,
}

/// The other ends of [`Caches`].
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

impl Caches {
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
        let caches = Self {
            service_accounts,
            roles,
            role_bindings,
            services,
            disruption_budgets,
            network_policies,
            leases,
            deployments,
            pods,
            lease_observer: Arc::default(),
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
        (caches, writers)
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
            lease_observer: _,
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

impl Caches {
    /// Whether the pods of a GatewayQueue grant by the token of this mark already, or
    /// are on their way to.
    pub fn is_up(&self, owner: &Owner, mark: &str) -> bool {
        self.deployment(owner)
            .is_some_and(|deployment| uses(&deployment, mark))
    }

    /// Another GatewayQueue, also one that is gone, whose pods may grant by the token
    /// of this mark.
    pub fn other_user(&self, owner: &Owner, mark: &str) -> Option<String> {
        let is_others = |object: &ObjectMeta| object.namespace.as_ref() == Some(&owner.namespace);
        let deployments = self.deployments.state().into_iter();
        let deployments = deployments
            .filter(|d| is_others(&d.metadata) && uses(d, mark))
            .map(|d| d.name_any());
        let pods = self.pods.state().into_iter();
        let pods = pods
            .filter(|pod| is_others(&pod.metadata) && token(pod) == Some(mark) && may_grant(pod))
            .filter_map(|pod| instance(&pod).map(str::to_owned));
        deployments.chain(pods).find(|name| *name != owner.name)
    }
}

/// Whether a Deployment has, or shall have, pods that grant by a token.
fn uses(deployment: &Deployment, mark: &str) -> bool {
    let spec = deployment.spec.as_ref();
    let labels = spec
        .and_then(|spec| spec.template.metadata.as_ref())
        .and_then(|metadata| metadata.labels.as_ref());
    let is_its = labels
        .and_then(|labels| labels.get(TOKEN))
        .map(String::as_str)
        == Some(mark);
    // Without a number Kubernetes takes one pod.
    let wanted = spec.map_or(0, |spec| spec.replicas.unwrap_or(1));
    let status = deployment.status.as_ref();
    let there = status.and_then(|status| status.replicas).unwrap_or(0);
    is_its && (wanted > 0 || there > 0)
}

/// The mark of the token by which a pod grants.
pub(crate) fn token(pod: &Pod) -> Option<&str> {
    pod.labels().get(TOKEN).map(String::as_str)
}

fn may_grant(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed"))
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
