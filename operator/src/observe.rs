//! Keeps the stores fresh, by a watch for each kind, and says a word to the
//! controller when a child changes.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::channel::mpsc::{self, UnboundedReceiver, UnboundedSender};
use futures::{Stream, StreamExt as _, pin_mut};
use gateway_queue_telemetry::chain;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::core::NamespaceResourceScope;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::reflector::store::Writer;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, DefaultBackoff, Event};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::api::Stored;
use crate::desired::{NAME, POD_SELECTOR};
use crate::sightings::Sightings;
use crate::stores::{Stores, Writers, instance, token};
use crate::tokens::Tokens;

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

/// Takes away what nobody here looks at. There may be many pods.
fn slim(pod: &mut Pod) {
    pod.metadata.managed_fields = None;
    pod.metadata.annotations = None;
    pod.spec = None;
}

/// Starts the watches of all kinds of children, as tasks of `tasks`.
pub fn watch_children(
    client: &Client,
    namespace: Option<&str>,
    tokens: &Arc<Tokens>,
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
        network_policies,
        leases,
        deployments,
        pods,
    } = writers;
    let sightings = Arc::clone(&stores.sightings);
    let leases = changes(client, namespace, leases)
        .filter(move |event| std::future::ready(is_news(&sightings, event, Instant::now())));
    tasks.spawn(forward(leases, own_name, tell.clone()));
    let pods = changes_of(client, namespace, POD_SELECTOR, pods, slim);
    let tokens = Arc::clone(tokens);
    let concerned = move |pod: &Pod| {
        let namespace = pod.namespace().unwrap_or_default();
        // Those who wait until nobody grants by its token any more, too.
        let mut queues: Vec<String> = token(pod)
            .map(|mark| tokens.claimants(&namespace, mark))
            .into_iter()
            .flatten()
            .map(|(_, name)| name)
            .collect();
        queues.extend(instance(pod).map(str::to_owned));
        queues.sort();
        queues.dedup();
        queues
    };
    tasks.spawn(forward(pods, concerned, tell.clone()));
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
    watch.children(network_policies);
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
fn own_name<K: Resource>(child: &K) -> Vec<String> {
    child.meta().name.clone().into_iter().collect()
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

    /// To look at every GatewayQueue again.
    pub fn all(&self) {
        let _ = self.all.unbounded_send(());
    }
}

/// The events of a watch. One that breaks is started again, and its errors are
/// for the log only.
pub fn events_of<K>(
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
                tracing::warn!(kind = %K::kind(&()), error = chain(error), "watch interrupted; trying again");
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
    changes_of(client, namespace, NAME, writer, |_| {})
}

/// The same of those that a selector of labels matches, and of what is left of them after
/// `modify`.
fn changes_of<K>(
    client: &Client,
    namespace: Option<&str>,
    labels: &str,
    writer: Writer<K>,
    modify: fn(&mut K),
) -> impl Stream<Item = Event<K>> + Send + use<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: DeserializeOwned + Clone + Debug + Send + Sync + 'static,
{
    let config = watcher::Config::default().labels(labels);
    events_of(scoped(client.clone(), namespace), config, writer, modify)
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

/// Has the GatewayQueues that each object which changed concerns looked at again.
async fn forward<K>(
    events: impl Stream<Item = Event<K>> + Send,
    queues: impl Fn(&K) -> Vec<String> + Send,
    tell: Tell,
) where
    K: Resource<DynamicType = ()>,
{
    pin_mut!(events);
    while let Some(event) = events.next().await {
        match event {
            Event::Apply(child) | Event::Delete(child) => {
                let namespace = child.namespace().unwrap_or_default();
                for name in queues(&child) {
                    tell.one(&namespace, &name);
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
    use crate::desired::Owner;

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
