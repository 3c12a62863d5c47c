//! What is there: a cache of every child in the watched namespaces, kept fresh
//! by a watch for each kind, and a word to the controller when one changes.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::channel::mpsc::{self, UnboundedReceiver, UnboundedSender};
use futures::future::try_join_all;
use futures::{FutureExt as _, Stream, StreamExt as _, TryFutureExt as _, pin_mut};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PartialObjectMeta};
use kube::core::NamespaceResourceScope;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::store::{Writer, WriterDropped};
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, DefaultBackoff, Event};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::MANAGER;
use crate::api::Stored;
use crate::desired::{INSTANCE, Kind, MANAGED_BY, Owner};
use crate::sightings::Sightings;

/// The API of a kind in one namespace, or in all of them.
pub fn scoped<K>(client: Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    }
}

/// What makes the controller look again.
pub struct Triggers {
    /// Whoever else wants it to.
    pub tell: Tell,
    /// The GatewayQueue of a child that changed or went.
    pub one: UnboundedReceiver<ObjectRef<Stored>>,
    /// A watch was started anew, and what went meanwhile is not known.
    pub all: UnboundedReceiver<()>,
}

/// The children that are there. Of most kinds the metadata is enough.
#[derive(Clone)]
pub struct Stores {
    service_accounts: Store<PartialObjectMeta<ServiceAccount>>,
    roles: Store<PartialObjectMeta<Role>>,
    role_bindings: Store<PartialObjectMeta<RoleBinding>>,
    services: Store<PartialObjectMeta<Service>>,
    disruption_budgets: Store<PartialObjectMeta<PodDisruptionBudget>>,
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
        let (leases, lease_writer) = store();
        let (deployments, deployment_writer) = store();
        let (pods, pod_writer) = store();
        let stores = Self {
            service_accounts,
            roles,
            role_bindings,
            services,
            disruption_budgets,
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
fn instance(pod: &Pod) -> Option<&str> {
    pod.labels().get(INSTANCE).map(String::as_str)
}

/// Takes away what nobody here looks at. There may be many pods.
fn slim(pod: &mut Pod) {
    pod.metadata.managed_fields = None;
    pod.metadata.annotations = None;
    pod.spec = None;
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

/// Starts the watches of all kinds of children, as tasks of `tasks`.
pub fn watch_children(
    client: &Client,
    namespace: Option<&str>,
    tasks: &mut JoinSet<()>,
) -> (Stores, Triggers) {
    let (stores, writers) = Stores::new();
    let (one, one_receiver) = mpsc::unbounded();
    let (all, all_receiver) = mpsc::unbounded();
    let tell = Tell { one, all };
    let whoever = tell.clone();
    let Writers {
        service_accounts,
        roles,
        role_bindings,
        services,
        disruption_budgets,
        leases,
        deployments,
        pods,
    } = writers;
    let sightings = Arc::clone(&stores.sightings);
    let leases = changes(client, namespace, leases)
        .filter(move |event| std::future::ready(is_news(&sightings, event, Instant::now())));
    tasks.spawn(forward(leases, own_name, tell.clone()));
    let pods = changes_of(client, namespace, pods, slim);
    tasks.spawn(forward(
        pods,
        |pod| instance(pod).map(str::to_owned),
        tell.clone(),
    ));
    let mut watch = Watch {
        client,
        namespace,
        tell,
        tasks,
    };
    watch.children(service_accounts);
    watch.children(roles);
    watch.children(role_bindings);
    watch.children(services);
    watch.children(disruption_budgets);
    watch.children(deployments);

    let triggers = Triggers {
        tell: whoever,
        one: one_receiver,
        all: all_receiver,
    };
    (stores, triggers)
}

struct Watch<'a> {
    client: &'a Client,
    namespace: Option<&'a str>,
    tell: Tell,
    tasks: &'a mut JoinSet<()>,
}

impl Watch<'_> {
    /// Of children that have the name of their GatewayQueue.
    fn children<K>(&mut self, writer: Writer<K>)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: DeserializeOwned + Clone + Debug + Send + Sync + 'static,
    {
        let changes = changes(self.client, self.namespace, writer);
        self.tasks
            .spawn(forward(changes, own_name, self.tell.clone()));
    }
}

/// By name rather than by owner: a child whose owner was taken away is still in
/// the way.
fn own_name<K: Resource>(child: &K) -> Option<String> {
    child.meta().name.clone()
}

/// A word to the controller.
#[derive(Clone)]
pub struct Tell {
    one: UnboundedSender<ObjectRef<Stored>>,
    all: UnboundedSender<()>,
}

impl Tell {
    /// To look at one GatewayQueue again. The receiver is gone only when the
    /// operator ends.
    pub fn one(&self, namespace: &str, name: &str) {
        let queue = ObjectRef::new(name).within(namespace);
        let _ = self.one.unbounded_send(queue);
    }

    fn all(&self) {
        let _ = self.all.unbounded_send(());
    }
}

/// The events of a watch. One that breaks is started again, and its errors are
/// for the log only.
pub fn watch<K>(
    api: Api<K>,
    config: watcher::Config,
    writer: Writer<K>,
    modify: fn(&mut K),
) -> impl Stream<Item = Event<K>> + Send
where
    K: Resource<DynamicType = ()>,
    K: DeserializeOwned + Clone + Debug + Send + Sync + 'static,
{
    watcher::watcher(api, config)
        .backoff(Patience::default())
        .modify(modify)
        .reflect(writer)
        .filter_map(|event| {
            if let Err(error) = &event {
                tracing::warn!(kind = %K::kind(&()), %error, "watch interrupted; trying again");
            }
            std::future::ready(event.ok())
        })
}

/// The usual waits between the attempts of a watch, but for one thing: a watch
/// says that it begins before it is known whether it may, and that is no success
/// after which the waits start from the shortest again. They do so when there was
/// no failure for two minutes.
#[derive(Default)]
struct Patience(DefaultBackoff);

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next()
    }
}

impl Backoff for Patience {
    fn reset(&mut self) {}
}

/// The changes of the objects of one kind that carry our label, for ever. They
/// are in the store when they come out here.
fn changes<K>(
    client: &Client,
    namespace: Option<&str>,
    writer: Writer<K>,
) -> impl Stream<Item = Event<K>> + Send + use<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: DeserializeOwned + Clone + Debug + Send + Sync + 'static,
{
    changes_of(client, namespace, writer, |_| {})
}

/// The same of what is left of them after `modify`.
fn changes_of<K>(
    client: &Client,
    namespace: Option<&str>,
    writer: Writer<K>,
    modify: fn(&mut K),
) -> impl Stream<Item = Event<K>> + Send + use<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: DeserializeOwned + Clone + Debug + Send + Sync + 'static,
{
    let labels = format!("{MANAGED_BY}={MANAGER}");
    let config = watcher::Config::default().labels(&labels);
    watch(scoped(client.clone(), namespace), config, writer, modify)
}

/// Notes what became of a Lease. A renewal, every few seconds for each queue, is
/// no reason to look at its GatewayQueue again.
fn is_news(sightings: &Sightings, event: &Event<Lease>, now: Instant) -> bool {
    match event {
        Event::Apply(lease) | Event::InitApply(lease) => sightings.saw(lease, now),
        Event::Delete(lease) => {
            sightings.lost(lease);
            true
        }
        Event::Init | Event::InitDone => true,
    }
}

/// Has the GatewayQueue of each object that changed looked at again.
async fn forward<K>(
    events: impl Stream<Item = Event<K>> + Send,
    queue: fn(&K) -> Option<String>,
    tell: Tell,
) where
    K: Resource<DynamicType = ()>,
{
    pin_mut!(events);
    while let Some(event) = events.next().await {
        match event {
            Event::Apply(child) | Event::Delete(child) => {
                if let Some(name) = queue(&child) {
                    tell.one(child.namespace().as_deref().unwrap_or_default(), &name);
                }
            }
            Event::InitDone => tell.all(),
            Event::Init | Event::InitApply(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_of_a_lease_is_no_news_and_all_else_is() {
        let lease = |name: &str, renewed: &str| {
            serde_json::from_value::<Lease>(serde_json::json!({
                "metadata": {"name": name, "namespace": "shop", "resourceVersion": renewed},
                "spec": {"renewTime": format!("2026-11-23T12:00:{renewed}.000000Z")},
            }))
            .unwrap()
        };
        let (sightings, start) = (Sightings::default(), Instant::now());
        let news = |event, seconds| {
            let now = start + Duration::from_secs(seconds);
            is_news(&sightings, &event, now)
        };
        assert!(news(Event::InitApply(lease("my-bot", "01")), 0));
        assert!(news(Event::InitDone, 0));
        assert!(!news(Event::Apply(lease("my-bot", "02")), 5));
        assert!(news(Event::Delete(lease("my-bot", "02")), 9));
        // One that is gone is forgotten in the end.
        assert!(news(Event::Apply(lease("other", "01")), 66));
        let owner = Owner {
            name: "my-bot".to_owned(),
            namespace: "shop".to_owned(),
            uid: "0001".to_owned(),
        };
        assert_eq!(sightings.of(&owner), None);
    }

    #[test]
    fn a_watch_that_begins_has_not_succeeded_yet() {
        let mut patience = Patience::default();
        let mut waits = Vec::new();
        for _ in 0..10 {
            waits.extend(patience.next());
            patience.reset();
        }
        assert!(waits[9] > Duration::from_secs(15), "{waits:?}");
    }
}
