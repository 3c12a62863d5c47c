//! The events of one watch, which is retried forever.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt as _, stream};
use gateway_queue_telemetry::chain;
use kube::core::NamespaceResourceScope;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use crate::observe::watch_health::WatchHealth;
use crate::observe::watch_retry::{Failure, WatchRetry};

/// The number of objects in a page of a list. kube parses a page as a whole, from a copy of its
/// text, and all kinds may be listed at the same time.
const PAGE_SIZE: u32 = 100;

/// The watched namespaces: one, or all of them.
#[derive(Clone)]
pub struct Scope {
    /// The client of the watches.
    pub client: Client,
    /// The namespace, or none for all.
    pub namespace: Option<String>,
    /// Records which watches work.
    pub health: Arc<WatchHealth>,
}

impl Scope {
    /// The namespace, or `*`, which is not the name of a namespace.
    pub fn name(&self) -> &str {
        self.namespace.as_deref().unwrap_or("*")
    }

    /// The API of a kind in this scope.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        let client = self.client.clone();
        match &self.namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        }
    }
}

/// Returns the events of a watch of `api`, which also updates the cache of `writer`. A watch
/// that fails is retried; the first of its failures is logged.
pub fn watch_stream<K>(
    scope: &Scope,
    api: Api<K>,
    dynamic: &K::DynamicType,
    config: watcher::Config,
    writer: Writer<K>,
) -> impl Stream<Item = Event<K>> + Send + use<K>
where
    K: Resource + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone + Send + Sync,
{
    let path = K::url_path(dynamic, scope.namespace.as_deref());
    let kind = K::kind(dynamic).into_owned();
    retried(scope, api, path, kind, config.page_size(PAGE_SIZE))
        .reflect(writer)
        .filter_map(|event| std::future::ready(event.ok()))
}

/// The events and failures of a watch, with a pause after each failure.
fn retried<K>(
    scope: &Scope,
    api: Api<K>,
    path: String,
    kind: String,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send + use<K>
where
    K: Resource + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
    K::DynamicType: Send + Sync,
{
    let health = Arc::clone(&scope.health);
    let scope = scope.name().to_owned();
    health.add(&path, &kind, &scope);
    let start = move || watcher::watcher(api.clone(), config.clone()).boxed();
    let state = (start(), WatchRetry::default(), Duration::ZERO);
    stream::unfold(state, move |(mut watch, mut retry, pause)| {
        let (start, health) = (start.clone(), Arc::clone(&health));
        let (path, kind, scope) = (path.clone(), kind.clone(), scope.clone());
        async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let event = watch.next().await?;
            let now = Instant::now();
            let pause = match &event {
                // A list is complete when all of its pages have arrived.
                Ok(Event::Init | Event::InitApply(_)) => Duration::ZERO,
                Ok(Event::InitDone | Event::Apply(_) | Event::Delete(_)) => {
                    health.connected(&path, now);
                    retry.succeeded();
                    Duration::ZERO
                }
                Err(error) => {
                    let failure = Failure::of(error);
                    let error = chain(error);
                    if failure == Failure::Expired {
                        watch = start();
                    }
                    if retry.is_routine(failure, now) {
                        tracing::debug!(kind, scope, error, "watch expired");
                    } else {
                        let was_up = health.failed(&path, now);
                        if was_up {
                            retry.succeeded();
                        }
                        // The list of a watch that expires succeeds each time.
                        if was_up || (failure != Failure::Expired && retry.is_new(failure)) {
                            tracing::warn!(kind, scope, error, "watch failed");
                        } else {
                            tracing::debug!(kind, scope, error, "watch failed again");
                        }
                    }
                    retry.failed(failure, now, fastrand::f64())
                }
            };
            Some((event, (watch, retry, pause)))
        }
    })
}
