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
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::api::{GatewayQueue, Stored};
use crate::apply::{self, Cluster};
use crate::backoff::Backoffs;
use crate::converge::Converged;
use crate::desired::{self, Owner, QueueDefaults};
use crate::events::Events;
use crate::leader::Leader;
use crate::metrics::Metrics;
use crate::observe::{Scope, Tell, Triggers, events_of};
use crate::repairs::Repairs;
use crate::status::{Holder, Outcome};
use crate::stores::Stores;
use crate::tokens::Tokens;
use crate::told::Told;

/// How many GatewayQueues are worked on at the same time, in all namespaces together.
pub const CONCURRENCY: u16 = 8;

/// A change comes as several events, one for each child. They are answered
/// together, once the stores have taken them up.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// A stranger's object is not watched, so it is looked for now and then.
const NAME_TAKEN_AGAIN: Duration = Duration::from_secs(30);

/// A child that got its label is in the stores long before that. If it is not, admission
/// has removed the label, and the status is written without it.
const LABELLED_AGAIN: Duration = Duration::from_secs(1);

/// Why a reconcile failed. It is tried again, later and later.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The spec gives no children.
    #[error(transparent)]
    Desired(#[from] desired::Error),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] apply::Error),
}

/// All that a reconcile needs.
pub struct Context {
    /// Makes the calls.
    pub cluster: Cluster,
    /// What is there.
    pub stores: Stores,
    /// Who shares a token.
    pub tokens: Arc<Tokens>,
    /// What queues are made of.
    pub defaults: QueueDefaults,
    /// The failures of each object.
    pub backoffs: Backoffs,
    /// The children that somebody keeps changing.
    pub repairs: Repairs,
    /// What was told of each.
    pub told: Told,
    /// Where events are left.
    pub events: Events,
    /// The counters.
    pub metrics: Metrics,
    /// Whether this operator is the leader of the namespaces, or on standby.
    pub works: watch::Receiver<bool>,
    /// A place for each reconcile, shared by the controllers of all namespaces.
    pub places: Arc<Semaphore>,
}

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
            note_tokens(&noting.tokens, event, &tell);
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
                    outcomes.repairs.forget_all(namespace, &gone.name);
                    let mut queue = ObjectRef::new(&gone.name);
                    queue.namespace = gone.namespace;
                    outcomes.backoffs.forget(&queue);
                    outcomes.told.forget(&queue);
                }
                Err(error) => tracing::warn!(error = chain(&error), "the controller stumbled"),
            }
            std::future::ready(())
        });
    run.boxed()
}

/// Notes who names which token, and has those looked at again whom that concerns.
fn note_tokens(tokens: &Tokens, event: &Event<Stored>, tell: &Tell) {
    let now = Instant::now();
    let concerned = match event {
        Event::Apply(queue) => tokens.saw_live(queue, now),
        Event::InitApply(queue) => tokens.saw(queue, now),
        Event::Delete(queue) => tokens.lost(queue, now),
        Event::Init => {
            tokens.list_begins();
            Vec::new()
        }
        Event::InitDone => tokens.list_ends(now),
    };
    for (namespace, name) in concerned {
        tell.one(&namespace, &name);
    }
}

/// Brings children and status of one GatewayQueue to what they shall be. Makes no
/// call when they are that already.
///
/// # Errors
/// See [`Error`].
pub async fn reconcile(stored: Arc<Stored>, context: Arc<Context>) -> Result<Action, Error> {
    let Ok(_place) = context.places.acquire().await else {
        // Never: nobody closes it.
        return Ok(Action::await_change());
    };
    if !*context.works.borrow() {
        // All are reconciled when this operator becomes the leader.
        return Ok(Action::await_change());
    }
    let started = Instant::now();
    let result = match &*stored {
        Stored::Queue(queue) => context.reconcile(queue, started).await,
        Stored::Unreadable(unreadable) => context.report_unreadable(unreadable).await,
    };
    let result = match result {
        // Nothing is made there any more, and what is there goes, this one too.
        Err(Error::Call(error)) if error.namespace_ends() => Ok(Action::await_change()),
        result => result,
    };
    context
        .metrics
        .reconciled(result.is_ok(), started.elapsed());
    if result.is_ok() {
        context.backoffs.forget(&ObjectRef::from_obj(&*stored));
    }
    result
}

fn retry_later(stored: Arc<Stored>, error: &Error, context: Arc<Context>) -> Action {
    let queue = ObjectRef::from_obj(&*stored);
    let wait = context.backoffs.failed(queue, fastrand::f64());
    let (namespace, name) = (stored.namespace(), stored.name_any());
    let next_try_ms = ms(wait);
    tracing::warn!(namespace, queue = name, %error, next_try_ms, "reconcile failed; trying again");
    Action::requeue(wait)
}

/// How a GatewayQueue is named among those that are stored.
pub(crate) fn reference(queue: &GatewayQueue) -> ObjectRef<Stored> {
    let mut reference = ObjectRef::new(&queue.name_any());
    reference.namespace = queue.namespace();
    reference
}

impl Context {
    /// Who grants by the token of this GatewayQueue, or may do so, in place of it.
    fn holder_of_its_token(&self, queue: &GatewayQueue, owner: &Owner) -> Option<Holder> {
        if let Some(older) = self.tokens.older(queue) {
            return Some(Holder::Older(older));
        }
        let mark = desired::token_mark(queue.spec.token_secret_ref.as_ref()?);
        // Who has the token already does not give it up for another's pods.
        if queue.spec.replicas == 0 || self.stores.is_up(owner, &mark) {
            return None;
        }
        let other = self.stores.other_user(owner, &mark)?;
        Some(Holder::StillUp(other))
    }

    /// A fault of the API server that goes on is told in the status as well; a single
    /// one is not.
    fn or_say_so(
        &self,
        converged: Result<Converged, Error>,
        queue: &GatewayQueue,
    ) -> Result<Converged, Error> {
        match converged {
            Err(Error::Call(error)) if error.namespace_ends() => Err(error.into()),
            Err(error) if self.backoffs.has_failed(&reference(queue)) => {
                Ok(Converged::failed(error))
            }
            converged => converged,
        }
    }

    async fn reconcile(&self, queue: &GatewayQueue, now: Instant) -> Result<Action, Error> {
        if queue.metadata.deletion_timestamp.is_some() {
            // The children go by themselves, after their owner.
            return Ok(Action::await_change());
        }
        let queue = &*self.told.newest(queue);
        let owner = Owner::of(queue)?;
        let other = self.holder_of_its_token(queue, &owner);
        let (converged, mark) = match desired::children(queue, &self.defaults, other.is_some()) {
            Ok(children) => {
                let converged = self.converge(queue, &children, &owner, now).await;
                let mut converged = self.or_say_so(converged, queue)?;
                if let (Some(other), Outcome::Applied) = (other, &converged.outcome) {
                    converged.outcome = Outcome::TokenShared(other);
                }
                (converged, desired::deployment_mark(&children))
            }
            Err(error) => (error.into(), None),
        };
        if converged.labelled && converged.error.is_none() && queue.status.is_some() {
            // What the stores do not have yet has not gone, and is reported in a moment.
            return Ok(Action::requeue(LABELLED_AGAIN));
        }
        let leader = self
            .report(queue, &owner, &converged.outcome, mark.as_deref(), now)
            .await?;
        if let Some(error) = converged.error {
            return Err(error);
        }
        let again = match (converged.outcome, leader) {
            (Outcome::NameTaken(_), _) => Some(now + NAME_TAKEN_AGAIN),
            // No event tells of a leader that does nothing any more.
            (_, Leader::Pod { until, .. }) => Some(until),
            _ => None,
        };
        let again = again.into_iter().chain(converged.again).min();
        Ok(again.map_or_else(Action::await_change, |again| {
            Action::requeue(again.saturating_duration_since(now))
        }))
    }
}

#[cfg(test)]
mod tests;
