//! Runs the reconciles of GatewayQueues.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use gateway_queue_telemetry::{chain, ms};
use kube::ResourceExt as _;
use kube::runtime::controller::{Action, Config, Error as ControllerError};
use kube::runtime::reflector::{ObjectRef, store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{Controller, WatchStreamExt as _};
use tokio_util::sync::CancellationToken;

use crate::api::Stored;
use crate::observe::token_claims::TokenClaims;
use crate::observe::watch_stream::{Scope, watch_stream};
use crate::observe::watches::{Trigger, Triggered};
use crate::reconcile::{Context, Error, reconcile};

/// The number of reconciles at the same time, in all namespaces together.
pub const CONCURRENCY: u16 = 8;

/// A change causes several events, one for each child. One reconcile handles them together,
/// after the caches have been updated.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// Returns the controller of one namespace, or of all. It ends after `stop`, when the running
/// reconciles have finished. `listed` is called once, when the GatewayQueues have been listed:
/// a store wakes only one waiting task, which is the controller itself.
pub fn controller(
    scope: &Scope,
    triggered: Triggered,
    context: Arc<Context>,
    stop: CancellationToken,
    listed: impl FnOnce() + Send + 'static,
) -> BoxFuture<'static, ()> {
    let (queues, writer) = store();
    let mut listed = Some(listed);
    let Triggered { one, all, trigger } = triggered;
    let noting = Arc::clone(&context);
    context
        .metrics
        .watch_queues(queues.clone(), context.is_leader.clone());
    let config = watcher::Config::default();
    let changes = watch_stream(scope, scope.api(), &(), config, writer)
        .inspect(move |event| {
            note_tokens(&noting.applier.token_claims, event, &trigger);
            if matches!(event, Event::InitDone)
                && let Some(listed) = listed.take()
            {
                listed();
            }
        })
        .map(Ok)
        .applied_objects();
    let controller = Controller::for_stream(changes, queues)
        .with_config(
            Config::default()
                .debounce(DEBOUNCE)
                .concurrency(CONCURRENCY),
        )
        .reconcile_on(one)
        .reconcile_all_on(all)
        .graceful_shutdown_on(stop.cancelled_owned());
    let outcomes = Arc::clone(&context);
    let run = controller
        .run(reconcile, retry_later, context)
        .for_each(move |result| {
            match result {
                // Logged by `retry_later`.
                Ok(_) | Err(ControllerError::ReconcilerFailed(..)) => {}
                Err(ControllerError::ObjectNotFound(gone)) => {
                    let namespace = gone.namespace.as_deref().unwrap_or_default();
                    outcomes
                        .applier
                        .drift_backoff
                        .forget_all(namespace, &gone.name);
                    let mut queue = ObjectRef::new(&gone.name);
                    queue.namespace = gone.namespace;
                    outcomes.backoffs.forget(&queue);
                    outcomes.status_writer.last_written.forget(&queue);
                }
                Err(error) => tracing::warn!(error = chain(&error), "controller failed"),
            }
            std::future::ready(())
        });
    run.boxed()
}

/// Records which GatewayQueue names which token, and triggers the reconciles of those that a
/// change concerns.
fn note_tokens(token_claims: &TokenClaims, event: &Event<Stored>, trigger: &Trigger) {
    let now = Instant::now();
    let concerned = match event {
        Event::Apply(queue) => token_claims.saw_live(queue, now),
        Event::InitApply(queue) => token_claims.saw(queue, now),
        Event::Delete(queue) => token_claims.lost(queue, now),
        Event::Init => {
            token_claims.list_begins();
            Vec::new()
        }
        Event::InitDone => token_claims.list_ends(now),
    };
    for (namespace, name) in concerned {
        trigger.one(&namespace, &name);
    }
}

pub(crate) fn retry_later(stored: Arc<Stored>, error: &Error, context: Arc<Context>) -> Action {
    let queue = ObjectRef::from_obj(&*stored);
    let wait = context.backoffs.failed(queue, fastrand::f64());
    let (namespace, name) = (stored.namespace(), stored.name_any());
    let retry_in_ms = ms(wait);
    tracing::warn!(
        namespace,
        queue = name,
        error = error.to_string(),
        retry_in_ms,
        "reconcile failed"
    );
    Action::requeue(wait)
}
