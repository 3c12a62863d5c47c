//! Reconciles one GatewayQueue: observe, build the desired children, apply what differs,
//! write the status.

pub mod backoff;
mod context;

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;

use crate::api::{GatewayQueue, Stored, Unreadable, reference};
use crate::apply::{Applied, Outcome, requests};
use crate::desired::{self, Child, Owner};
use crate::observe::observed::Observed;
use crate::observe::token_holder::token_holder;
use crate::status::writer::wall_clock;
use crate::status::{Inputs, compute};

pub use context::{Context, Error};

/// Objects of other owners are not watched.
const NAME_TAKEN_RECHECK: Duration = Duration::from_secs(30);

/// A child that got its label is in the caches long before that. If it is not, admission
/// removed the label, and the status is written without it.
const LABELLED_RECHECK: Duration = Duration::from_secs(1);

/// Brings children and status of one GatewayQueue to the desired state. Makes no call if they
/// already are.
///
/// # Errors
/// See [`Error`].
pub async fn reconcile(stored: Arc<Stored>, context: Arc<Context>) -> Result<Action, Error> {
    let Ok(_permit) = context.permits.acquire().await else {
        // The semaphore is never closed.
        return Ok(Action::await_change());
    };
    if !*context.is_leader.borrow() {
        // All are reconciled when this operator becomes the leader.
        return Ok(Action::await_change());
    }
    let started = Instant::now();
    let result = match &*stored {
        Stored::Queue(queue) => context.reconcile(queue, started).await,
        Stored::Unreadable(queue) => context.report_unreadable(queue).await,
    };
    let result = match result {
        // Nothing can be created, and everything is deleted with the namespace.
        Err(Error::Request(error)) if error.namespace_terminates() => Ok(Action::await_change()),
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

impl Context {
    async fn reconcile(&self, queue: &GatewayQueue, now: Instant) -> Result<Action, Error> {
        if queue.metadata.deletion_timestamp.is_some() {
            // The garbage collector deletes the children.
            return Ok(Action::await_change());
        }
        let queue = &*self.status_writer.newest(queue);
        let owner = Owner::of(queue)?;
        let (claims, caches) = (&self.applier.token_claims, &self.applier.caches);
        let holder = token_holder(claims, caches, queue, &owner);
        let pods = caches.pods(&owner);
        let ports = pods.iter().filter_map(|pod| pod.port()).collect();
        let children = desired::children(queue, &self.defaults, holder.is_some(), &ports);
        let mut applied = self.apply(queue, &children, &owner, now).await?;
        if let (Some(holder), Outcome::Applied) = (holder, &applied.outcome) {
            applied.outcome = Outcome::TokenShared(holder);
        }
        if applied.labelled && applied.error.is_none() && queue.status.is_some() {
            // The caches do not have it yet: it is not missing.
            return Ok(Action::requeue(LABELLED_RECHECK));
        }
        let observed = Observed::of(caches, &owner, queue.status.as_ref(), now);
        let inputs = Inputs {
            queue,
            owner: &owner,
            outcome: &applied.outcome,
            deployment_hash: children.as_deref().ok().and_then(desired::deployment_hash),
            observed: &observed,
        };
        let status = compute(inputs, wall_clock());
        self.status_writer.write(queue, &owner, &status).await?;
        if let Some(error) = applied.error {
            return Err(error.into());
        }
        children?;
        let is_taken = matches!(applied.outcome, Outcome::NameTaken(_));
        let recheck = is_taken.then(|| now + NAME_TAKEN_RECHECK);
        let recheck = recheck.into_iter().chain(applied.recheck_at).min();
        Ok(recheck.map_or_else(Action::await_change, |at| {
            Action::requeue(at.saturating_duration_since(now))
        }))
    }

    /// Applies the children. A failed call is part of the result if the previous reconcile
    /// failed, too, so that the status reports it.
    async fn apply(
        &self,
        queue: &GatewayQueue,
        children: &Result<Vec<Child>, desired::Error>,
        owner: &Owner,
        now: Instant,
    ) -> Result<Applied, requests::Error> {
        let children = match children {
            Ok(children) => children,
            Err(error) => return Ok(Applied::invalid(error)),
        };
        match self.applier.apply(queue, children, owner, now).await {
            Err(error)
                if !error.namespace_terminates() && self.backoffs.has_failed(&reference(queue)) =>
            {
                Ok(Applied::failed(error))
            }
            result => result,
        }
    }

    async fn report_unreadable(&self, queue: &Unreadable) -> Result<Action, Error> {
        if queue.metadata.deletion_timestamp.is_none() {
            let owner = Owner::by(&queue.metadata)?;
            self.status_writer.write_unreadable(queue, &owner).await?;
        }
        Ok(Action::await_change())
    }
}

#[cfg(test)]
mod tests;
