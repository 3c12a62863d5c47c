//! The reconciler: from one GatewayQueue to its children and its status.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, try_join_all};
use futures::{FutureExt as _, StreamExt as _};
use jiff::{Timestamp, Unit};
use kube::Client;
use kube::runtime::controller::{Action, Config, Error as ControllerError};
use kube::runtime::reflector::{ObjectRef, store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{Controller, WatchStreamExt as _};
use tokio_util::sync::CancellationToken;

use crate::api::{GatewayQueue, GatewayQueueStatus};
use crate::apply::{self, Cluster};
use crate::backoff::Backoffs;
use crate::desired::{self, Child, Kind, Owner, QueueDefaults};
use crate::drift::{Standing, is_leftover, standing};
use crate::leader::{Leader, leader};
use crate::metrics::Metrics;
use crate::observe::{Stores, Triggers, scoped, watch};
use crate::status::{Evidence, Outcome, status};

/// How many GatewayQueues are worked on at the same time.
const CONCURRENCY: u16 = 8;

/// A change comes as several events, one for each child. They are answered
/// together, once the stores have taken them up.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// A stranger's object is not watched, so it is looked for now and then.
const NAME_TAKEN_AGAIN: Duration = Duration::from_secs(30);

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
    /// What queues are made of.
    pub defaults: QueueDefaults,
    /// The failures of each object.
    pub backoffs: Backoffs,
    /// The counters.
    pub metrics: Metrics,
}

/// The controller of one namespace, or of all. It ends after `stop`, when the
/// reconciles that are under way are done. `listed` is called once, when the
/// GatewayQueues are known: a store wakes only one of those who wait for it, and
/// that is the controller itself.
pub fn controller(
    client: Client,
    namespace: Option<&str>,
    triggers: Triggers,
    context: Arc<Context>,
    stop: CancellationToken,
    listed: impl FnOnce() + Send + 'static,
) -> BoxFuture<'static, ()> {
    let (queues, writer) = store();
    let mut listed = Some(listed);
    let changes = watch(
        scoped(client, namespace),
        watcher::Config::default(),
        writer,
    )
    .inspect(move |event| {
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
        .reconcile_on(triggers.one)
        .reconcile_all_on(triggers.all)
        .graceful_shutdown_on(stop.cancelled_owned());
    let outcomes = Arc::clone(&context);
    let run = controller
        .run(reconcile, retry_later, context)
        .for_each(move |result| {
            match result {
                // Logged where they happen, with what is tried next.
                Ok(_) | Err(ControllerError::ReconcilerFailed(..)) => {}
                Err(ControllerError::ObjectNotFound(gone)) => {
                    let mut queue = ObjectRef::new(&gone.name);
                    queue.namespace = gone.namespace;
                    outcomes.backoffs.forget(&queue);
                }
                Err(error) => tracing::warn!(%error, "the controller stumbled"),
            }
            std::future::ready(())
        });
    run.boxed()
}

/// Brings children and status of one GatewayQueue to what they shall be. Makes no
/// call when they are that already.
///
/// # Errors
/// See [`Error`].
pub async fn reconcile(queue: Arc<GatewayQueue>, context: Arc<Context>) -> Result<Action, Error> {
    let started = Instant::now();
    let result = context.reconcile(&queue, started).await;
    context
        .metrics
        .reconciled(result.is_ok(), started.elapsed());
    if result.is_ok() {
        context.backoffs.forget(&ObjectRef::from_obj(&*queue));
    }
    result
}

fn retry_later(queue: Arc<GatewayQueue>, error: &Error, context: Arc<Context>) -> Action {
    let queue = ObjectRef::from_obj(&*queue);
    let wait = context.backoffs.failed(queue, fastrand::f64());
    tracing::warn!(%error, ?wait, "reconcile failed; trying again");
    Action::requeue(wait)
}

impl Context {
    async fn reconcile(&self, queue: &GatewayQueue, now: Instant) -> Result<Action, Error> {
        if queue.metadata.deletion_timestamp.is_some() {
            // The children go by themselves, after their owner.
            return Ok(Action::await_change());
        }
        let owner = Owner::of(queue)?;
        let (outcome, result, mark) = match desired::children(queue, &self.defaults) {
            Ok(children) => {
                let (outcome, result) = self.converge(queue, &children, &owner, now).await?;
                (outcome, result, desired::deployment_mark(&children))
            }
            Err(error) => (Outcome::Invalid(error.to_string()), Err(error.into()), None),
        };
        let leader = self
            .report(queue, &owner, &outcome, mark.as_deref(), now)
            .await?;
        result?;
        Ok(match (outcome, leader) {
            (Outcome::NameTaken(_), _) => Action::requeue(NAME_TAKEN_AGAIN),
            // No event tells of a leader that does nothing any more.
            (_, Leader::Pod { until, .. }) => Action::requeue(until.saturating_duration_since(now)),
            _ => Action::await_change(),
        })
    }

    /// Applies the children that are not as they shall be. The outcome is for
    /// the status; a refusal comes back as an error as well, to be tried again.
    async fn converge(
        &self,
        queue: &GatewayQueue,
        children: &[Child],
        owner: &Owner,
        now: Instant,
    ) -> Result<(Outcome, Result<(), Error>), Error> {
        let standings = children.iter().map(|child| self.stands(child, owner));
        let standings = try_join_all(standings).await?;
        let strangers: Vec<_> = children
            .iter()
            .zip(&standings)
            .filter(|(_, standing)| **standing == Standing::Stranger)
            .map(|(child, _)| child.kind)
            .collect();
        if !strangers.is_empty() {
            return Ok((Outcome::NameTaken(strangers), Ok(())));
        }
        let absent = |kind| {
            let mut all = children.iter().zip(&standings);
            all.any(|(child, standing)| child.kind == kind && *standing == Standing::Absent)
        };
        // Never said of a Lease that takes the place of another, whose leader may
        // have granted a moment ago.
        let never_led = absent(Kind::Lease)
            && absent(Kind::Deployment)
            && queue.status.is_none()
            && !self.stores.sightings.led_lately(owner, now);
        let mut refusal = Refusal::default();
        for (child, standing) in children.iter().zip(standings) {
            let applied = match standing {
                Standing::Stranger | Standing::Leaving | Standing::InPlace => continue,
                Standing::Absent if child.kind == Kind::Lease && never_led => {
                    self.cluster.create_first_lease(owner).await
                }
                Standing::Absent => self.cluster.create(child, owner).await,
                Standing::Drifted { uid } => {
                    self.cluster.repair(child, owner, uid.as_deref()).await
                }
            };
            refusal.note(applied, child.kind, "applied")?;
        }
        for kind in Kind::OPTIONAL {
            let Some(there) = self.stores.metadata(kind, owner) else {
                continue;
            };
            if children.iter().all(|child| child.kind != kind) && is_leftover(owner, &there) {
                let deleted = self.cluster.delete(kind, owner, there.uid.as_deref()).await;
                refusal.note(deleted, kind, "deleted")?;
            }
        }
        Ok(refusal.0.unwrap_or((Outcome::Applied, Ok(()))))
    }

    /// How a child stands. One that the store does not have is asked for: the
    /// store may lag behind, and a stranger's is not in it.
    async fn stands(&self, child: &Child, owner: &Owner) -> Result<Standing, Error> {
        let observed = match self.stores.metadata(child.kind, owner) {
            Some(observed) => Some(observed),
            None => self.cluster.find(child.kind, owner).await?,
        };
        Ok(standing(child, owner, observed.as_ref()))
    }

    /// Writes the status, when it says something new.
    async fn report(
        &self,
        queue: &GatewayQueue,
        owner: &Owner,
        outcome: &Outcome,
        mark: Option<&str>,
        now: Instant,
    ) -> Result<Leader, Error> {
        let deployment = self.stores.deployment(owner);
        let lease = self.stores.lease(owner);
        let seen = self.stores.sightings.of(owner);
        let leader = leader(lease.as_deref(), seen, queue.status.as_ref(), now);
        let evidence = Evidence {
            outcome,
            deployment: deployment.as_deref(),
            mark,
            lease: lease.as_deref(),
            leader: &leader,
        };
        let new = status(queue, owner, evidence, wall_clock());
        if queue.status.as_ref() != Some(&new) {
            self.cluster.write_status(owner, &new).await?;
            tell(queue.status.as_ref(), &new);
        }
        Ok(leader)
    }
}

/// The first call that was refused: a child that is does not keep the others from
/// what they need.
#[derive(Default)]
struct Refusal(Option<(Outcome, Result<(), Error>)>);

impl Refusal {
    /// Keeps a refusal for later; any other error comes back.
    fn note(
        &mut self,
        result: Result<(), apply::Error>,
        kind: Kind,
        done: &str,
    ) -> Result<(), apply::Error> {
        let Err(error) = result else {
            tracing::info!(kind = kind.word(), "{done}");
            return Ok(());
        };
        let Some(message) = error.refusal() else {
            return Err(error);
        };
        let message = message.to_owned();
        let outcome = Outcome::Refused { kind, message };
        self.0.get_or_insert((outcome, Err(error.into())));
        Ok(())
    }
}

/// The time, to the second as Kubernetes keeps it.
fn wall_clock() -> Timestamp {
    let now = Timestamp::now();
    now.round(Unit::Second).unwrap_or(now)
}

/// Logs what `Ready` says when it says something else than before.
fn tell(before: Option<&GatewayQueueStatus>, after: &GatewayQueueStatus) {
    let ready = |status: &GatewayQueueStatus| {
        let conditions = status.conditions.as_deref()?;
        conditions
            .first()
            .map(|c| (c.reason.clone(), c.message.clone()))
    };
    let after = ready(after);
    if before.and_then(ready) != after
        && let Some((reason, message)) = after
    {
        tracing::info!(reason, "{message}");
    }
}

#[cfg(test)]
mod tests;
