//! The watches of all kinds of children. They fill the caches, and trigger reconciles.

use std::sync::Arc;
use std::time::Instant;

use futures::channel::mpsc::{self, UnboundedReceiver, UnboundedSender};
use futures::{Stream, StreamExt as _, pin_mut};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource, ResourceExt as _};
use tokio_util::task::JoinMap;

use crate::api::Stored;
use crate::desired::{Kind, NAME, POD_SELECTOR};
use crate::observe::caches::{Caches, Writers};
use crate::observe::deployment::ObservedDeployment;
use crate::observe::lease::{HANDOVER, ObservedLease};
use crate::observe::lease_observer::LeaseObserver;
use crate::observe::pod::ObservedPod;
use crate::observe::token_claims::TokenClaims;
use crate::observe::watch_stream::{Scope, watch_stream};

/// Triggers reconciles. The receiver is dropped only when the operator stops.
#[derive(Clone)]
pub struct Trigger {
    one: UnboundedSender<ObjectRef<Stored>>,
    all: UnboundedSender<()>,
}

impl Trigger {
    /// Triggers the reconcile of one GatewayQueue.
    pub fn one(&self, namespace: &str, name: &str) {
        let queue = ObjectRef::new(name).within(namespace);
        let _ = self.one.unbounded_send(queue);
    }

    /// Triggers the reconciles of all GatewayQueues.
    pub fn all(&self) {
        let _ = self.all.unbounded_send(());
    }
}

/// The triggered reconciles.
pub struct Triggered {
    /// Triggers more.
    pub trigger: Trigger,
    /// One GatewayQueue.
    pub one: UnboundedReceiver<ObjectRef<Stored>>,
    /// All GatewayQueues.
    pub all: UnboundedReceiver<()>,
}

/// Starts the watches of all kinds of children, each as one of `tasks`.
pub fn watch_children(
    scope: &Scope,
    token_claims: &Arc<TokenClaims>,
    tasks: &mut JoinMap<String, ()>,
) -> (Caches, Triggered) {
    let (caches, writers) = Caches::new();
    let (one, one_receiver) = mpsc::unbounded();
    let (all, all_receiver) = mpsc::unbounded();
    let trigger = Trigger { one, all };
    let Writers {
        metadata,
        leases,
        deployments,
        pods,
    } = writers;
    let name = |kind: &str| format!("watch of {kind} in {}", scope.name());
    let labelled = || watcher::Config::default().labels(NAME);
    for (kind, writer) in metadata {
        let client = scope.client.clone();
        let api = match &scope.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &kind),
            None => Api::all_with(client, &kind),
        };
        let events = watch_stream(scope, api, &kind, labelled(), writer);
        tasks.spawn(
            name(kind.as_str()),
            forward(events, queue_of(kind), trigger.clone()),
        );
    }
    let api = scope.api::<ObservedDeployment>();
    let deployments = watch_stream(scope, api, &(), labelled(), deployments);
    tasks.spawn(
        name("Deployment"),
        forward(deployments, queue_of(Kind::Deployment), trigger.clone()),
    );

    let lease_observer = Arc::clone(&caches.lease_observer);
    let api = scope.api::<ObservedLease>();
    let leases = watch_stream(scope, api, &(), labelled(), leases)
        .filter(move |event| std::future::ready(is_change(&lease_observer, event, Instant::now())));
    tasks.spawn(
        name("Lease"),
        forward(leases, queue_of(Kind::Lease), trigger.clone()),
    );
    tasks.spawn(
        format!("timer of Leases in {}", scope.name()),
        forward_expired(Arc::clone(&caches.lease_observer), trigger.clone()),
    );

    let selected = watcher::Config::default().labels(POD_SELECTOR);
    let pods = watch_stream(scope, scope.api(), &(), selected, pods);
    let token_claims = Arc::clone(token_claims);
    let queues = move |pod: &ObservedPod| {
        let namespace = pod.namespace().unwrap_or_default();
        // Also the queues that wait until no pod uses the token.
        let mut queues: Vec<String> = pod
            .token()
            .map(|hash| token_claims.claimants(&namespace, hash))
            .into_iter()
            .flatten()
            .map(|(_, name)| name)
            .collect();
        queues.extend(pod.instance().map(str::to_owned));
        queues.sort();
        queues.dedup();
        queues
    };
    tasks.spawn(name("Pod"), forward(pods, queues, trigger.clone()));
    let triggered = Triggered {
        trigger,
        one: one_receiver,
        all: all_receiver,
    };
    (caches, triggered)
}

/// The GatewayQueue of a child, by name rather than by owner: a child that lost its owner
/// still takes the name.
fn queue_of<K: Resource>(kind: Kind) -> impl Fn(&K) -> Vec<String> {
    move |child| {
        let name = child.meta().name.as_deref();
        let queue = name.map(|name| kind.queue_of(name).to_owned());
        queue.into_iter().collect()
    }
}

/// Records an event of a Lease. Returns false for a renewal in time, which is no reason to
/// reconcile: each queue has one every few seconds.
fn is_change(lease_observer: &LeaseObserver, event: &Event<ObservedLease>, now: Instant) -> bool {
    match event {
        Event::Apply(lease) | Event::InitApply(lease) => lease_observer.saw(lease, now),
        Event::Delete(lease) => {
            lease_observer.lost(lease);
            true
        }
        Event::Init | Event::InitDone => true,
    }
}

/// Triggers the reconcile of each GatewayQueue whose Lease expires. A leader that stops renewing its
/// Lease causes no event.
async fn forward_expired(lease_observer: Arc<LeaseObserver>, trigger: Trigger) {
    loop {
        let now = Instant::now();
        let (expired, next) = lease_observer.take_expired(now);
        for (namespace, name) in expired {
            trigger.one(&namespace, &name);
        }
        let pause = next.map_or(HANDOVER, |at| at.saturating_duration_since(now));
        // A Lease that changes meanwhile does not expire within this time.
        tokio::time::sleep(pause.min(HANDOVER)).await;
    }
}

/// Triggers the reconciles of the GatewayQueues that each changed object concerns.
async fn forward<K: Resource>(
    events: impl Stream<Item = Event<K>> + Send,
    queues: impl Fn(&K) -> Vec<String> + Send,
    trigger: Trigger,
) {
    pin_mut!(events);
    while let Some(event) = events.next().await {
        match event {
            Event::Apply(child) | Event::Delete(child) => {
                let namespace = child.namespace().unwrap_or_default();
                for name in queues(&child) {
                    trigger.one(&namespace, &name);
                }
            }
            // What was deleted before the list is not known.
            Event::InitDone => trigger.all(),
            Event::Init | Event::InitApply(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_a_renewal_in_time_of_a_lease_does_not_trigger_a_reconcile() {
        let lease = |name: &str, renewed: &str| {
            serde_json::from_value::<ObservedLease>(serde_json::json!({
                "metadata": {"name": name, "namespace": "shop", "resourceVersion": renewed},
                "spec": {
                    "leaseDurationSeconds": 15,
                    "renewTime": format!("2026-11-23T12:00:{renewed}.000000Z"),
                },
            }))
            .unwrap()
        };
        let (lease_observer, start) = (LeaseObserver::default(), Instant::now());
        let change = |event, seconds| {
            let now = start + Duration::from_secs(seconds);
            is_change(&lease_observer, &event, now)
        };
        assert!(change(Event::InitApply(lease("my-bot", "01")), 0));
        assert!(change(Event::InitDone, 0));
        // The status may say that its leader is lost, from before this operator started.
        assert!(change(Event::Apply(lease("my-bot", "00")), 4));
        assert!(!change(Event::Apply(lease("my-bot", "02")), 5));
        // It had expired, which the status may have reported.
        assert!(change(Event::Apply(lease("my-bot", "03")), 20));
        assert!(!change(Event::Apply(lease("my-bot", "04")), 25));
        assert!(change(Event::Delete(lease("my-bot", "04")), 29));
        // A deleted Lease is forgotten after a while.
        assert!(change(Event::Apply(lease("other", "01")), 86));
        let owner = crate::testing::owner();
        assert_eq!(lease_observer.of(&owner), None);
    }
}
