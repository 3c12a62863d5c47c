//! The reconciler: from one GatewayQueue to its children and its status.

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
use crate::observe::watches::{Scope, Tell, Triggers, events_of};
use crate::reconcile::context::{Context, Error};
use crate::reconcile::reconcile;

/// How many GatewayQueues are worked on at the same time, in all namespaces together.
pub const CONCURRENCY: u16 = 8;

/// A change comes as several events, one for each child. They are answered
/// together, once the stores have taken them up.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// The controller of one namespace, or of all. It ends after `stop`, when the
/// reconciles that are under way are done. `listed` is called once, when the
/// GatewayQueues are known: a store wakes only one of those who wait for it, and
/// that is the controller itself.
pub fn controller(
    scope: &Scope,
    triggers: Triggers,
    context: Arc<Context>,
    stop: CancellationToken,
    listed: impl FnOnce() + Send + 'static,
) -> BoxFuture<'static, ()> {
    let (queues, writer) = store();
    let mut listed = Some(listed);
    let Triggers { one, all, tell } = triggers;
    let noting = Arc::clone(&context);
    context
        .metrics
        .watch_queues(queues.clone(), context.works.clone());
    let changes = events_of(scope, watcher::Config::default(), writer, |_| {})
        .inspect(move |event| {
            note_tokens(&noting.token_claims, event, &tell);
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
                // Logged where they happen, with what is tried next.
                Ok(_) | Err(ControllerError::ReconcilerFailed(..)) => {}
                Err(ControllerError::ObjectNotFound(gone)) => {
                    let namespace = gone.namespace.as_deref().unwrap_or_default();
                    outcomes.drift_backoff.forget_all(namespace, &gone.name);
                    let mut queue = ObjectRef::new(&gone.name);
                    queue.namespace = gone.namespace;
                    outcomes.backoffs.forget(&queue);
                    outcomes.last_written.forget(&queue);
                }
                Err(error) => tracing::warn!(error = chain(&error), "the controller stumbled"),
            }
            std::future::ready(())
        });
    run.boxed()
}

/// Notes who names which token, and has those looked at again whom that concerns.
fn note_tokens(token_claims: &TokenClaims, event: &Event<Stored>, tell: &Tell) {
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
        tell.one(&namespace, &name);
    }
}

pub(crate) fn retry_later(stored: Arc<Stored>, error: &Error, context: Arc<Context>) -> Action {
    let queue = ObjectRef::from_obj(&*stored);
    let wait = context.backoffs.failed(queue, fastrand::f64());
    let (namespace, name) = (stored.namespace(), stored.name_any());
    let retry_in_ms = ms(wait);
    tracing::warn!(namespace, queue = name, %error, retry_in_ms, "reconcile failed; trying again");
    Action::requeue(wait)
}
