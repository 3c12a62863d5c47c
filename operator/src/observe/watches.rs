//! Keeps the stores fresh, by a watch for each kind, and says a word to the
//! controller when a child changes.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::channel::mpsc::{self, UnboundedReceiver, UnboundedSender};
use futures::{Stream, StreamExt as _, pin_mut, stream};
use gateway_queue_telemetry::chain;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::core::NamespaceResourceScope;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::api::Stored;
use crate::desired::{NAME, POD_SELECTOR};
use crate::observe::caches::{Caches, Writers, instance, token};
use crate::observe::lease_observer::LeaseObserver;
use crate::observe::token_claims::TokenClaims;
use crate::observe::watch_health::WatchHealth;
use crate::observe::watch_retry::{Failure, WatchRetry};

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

/// What is watched: the objects of one namespace, or of all of them.
#[derive(Clone)]
pub struct Scope {
    /// Calls the API server.
    pub client: Client,
    /// The namespace; all when there is none.
    pub namespace: Option<String>,
    /// Where it is noted whether the watches work.
    pub health: Arc<WatchHealth>,
}

impl Scope {
    /// The namespace, or `*`, which is the name of none.
    pub fn name(&self) -> &str {
        self.namespace.as_deref().unwrap_or("*")
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
    scope: &Scope,
    token_claims: &Arc<TokenClaims>,
    tasks: &mut JoinSet<()>,
) -> (Caches, Triggers) {
    let (caches, writers) = Caches::new();
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
    let lease_observer = Arc::clone(&caches.lease_observer);
    let leases = changes(scope, leases)
        .filter(move |event| std::future::ready(is_news(&lease_observer, event, Instant::now())));
    tasks.spawn(forward(leases, own_name, tell.clone()));
    let pods = changes_of(scope, POD_SELECTOR, pods, slim);
    let token_claims = Arc::clone(token_claims);
    let concerned = move |pod: &Pod| {
        let namespace = pod.namespace().unwrap_or_default();
        // Those who wait until nobody grants by its token any more, too.
        let mut queues: Vec<String> = token(pod)
            .map(|mark| token_claims.claimants(&namespace, mark))
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
    let mut watch = Watch { scope, tell, tasks };
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
    (caches, triggers)
}

struct Watch<'a> {
    scope: &'a Scope,
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
        let changes = changes(self.scope, writer);
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

/// The events of a watch, for ever. One that breaks is tried again; of its failures
/// the first is logged.
pub fn events_of<K>(
    scope: &Scope,
    config: watcher::Config,
    writer: Writer<K>,
    modify: fn(&mut K),
) -> impl Stream<Item = Event<K>> + Send + use<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: DeserializeOwned + Clone + Debug + Send + Sync + 'static,
{
    retried(scope, config)
        .modify(modify)
        .reflect(writer)
        .filter_map(|event| std::future::ready(event.ok()))
}

/// What there is of one kind in a scope, and the failures, with a pause after each.
fn retried<K>(
    scope: &Scope,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send + use<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: DeserializeOwned + Clone + Debug + Send + Sync + 'static,
{
    let api: Api<K> = scoped(scope.client.clone(), scope.namespace.as_deref());
    let path = K::url_path(&(), scope.namespace.as_deref());
    let health = Arc::clone(&scope.health);
    let name = scope.name().to_owned();
    health.add(&path, &K::kind(&()), &name);
    let begin = move || watcher::watcher(api.clone(), config.clone()).boxed();
    let start = (begin(), WatchRetry::default(), Duration::ZERO);
    stream::unfold(start, move |(mut watch, mut retry, wait)| {
        let (begin, health) = (begin.clone(), Arc::clone(&health));
        let (path, name) = (path.clone(), name.clone());
        async move {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            let event = watch.next().await?;
            let now = Instant::now();
            let wait = match &event {
                // A list is done when all of its pages are.
                Ok(Event::Init | Event::InitApply(_)) => Duration::ZERO,
                Ok(Event::InitDone | Event::Apply(_) | Event::Delete(_)) => {
                    health.connected(&path, now);
                    retry.succeeded();
                    Duration::ZERO
                }
                Err(error) => {
                    let failure = Failure::of(error);
                    let kind = K::kind(&());
                    if failure == Failure::Expired {
                        watch = begin();
                    }
                    if retry.is_routine(failure, now) {
                        tracing::debug!(%kind, error = chain(error), "watch expired; listing again");
                    } else {
                        let was_up = health.failed(&path, now);
                        if was_up {
                            retry.succeeded();
                        }
                        // The list of a watch that expires succeeds each time.
                        if was_up || (failure != Failure::Expired && retry.is_new(failure)) {
                            let scope = &name;
                            tracing::warn!(%kind, scope, error = chain(error), "watch failed; retrying");
                        } else {
                            tracing::debug!(%kind, error = chain(error), "watch failed again");
                        }
                    }
                    retry.failed(failure, now, fastrand::f64())
                }
            };
            Some((event, (watch, retry, wait)))
        }
    })
}

/// The changes of the objects of one kind that carry our label, for ever. They
/// are in the store when they come out here.
fn changes<K>(scope: &Scope, writer: Writer<K>) -> impl Stream<Item = Event<K>> + Send + use<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: DeserializeOwned + Clone + Debug + Send + Sync + 'static,
{
    changes_of(scope, NAME, writer, |_| {})
}

/// The same of those that a selector of labels matches, and of what is left of them after
/// `modify`.
fn changes_of<K>(
    scope: &Scope,
    labels: &str,
    writer: Writer<K>,
    modify: fn(&mut K),
) -> impl Stream<Item = Event<K>> + Send + use<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: DeserializeOwned + Clone + Debug + Send + Sync + 'static,
{
    let config = watcher::Config::default().labels(labels);
    events_of(scope, config, writer, modify)
}

/// Notes what became of a Lease. A renewal, every few seconds for each queue, is
/// no reason to look at its GatewayQueue again.
fn is_news(lease_observer: &LeaseObserver, event: &Event<Lease>, now: Instant) -> bool {
    match event {
        Event::Apply(lease) | Event::InitApply(lease) => lease_observer.saw(lease, now),
        Event::Delete(lease) => {
            lease_observer.lost(lease);
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
        let (lease_observer, start) = (LeaseObserver::default(), Instant::now());
        let news = |event, seconds| {
            let now = start + Duration::from_secs(seconds);
            is_news(&lease_observer, &event, now)
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
        assert_eq!(lease_observer.of(&owner), None);
    }
}
