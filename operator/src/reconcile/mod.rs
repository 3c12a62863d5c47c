//! One GatewayQueue: from what is observed to its children and its status.

pub mod backoff;
pub(crate) mod context;
mod converge;
pub mod last_written;
mod report;

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;

use crate::api::{GatewayQueue, Stored, reference};
use crate::desired::{self, Owner};
use crate::observe::leader::Leader;
use crate::status::{Holder, Outcome};

pub use context::{Context, Error};
use converge::Converged;

/// A stranger's object is not watched, so it is looked for now and then.
const NAME_TAKEN_AGAIN: Duration = Duration::from_secs(30);

/// A child that got its label is in the stores long before that. If it is not, admission
/// has removed the label, and the status is written without it.
const LABELLED_AGAIN: Duration = Duration::from_secs(1);

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

impl Context {
    /// Who grants by the token of this GatewayQueue, or may do so, in place of it.
    fn holder_of_its_token(&self, queue: &GatewayQueue, owner: &Owner) -> Option<Holder> {
        if let Some(older) = self.token_claims.older(queue) {
            return Some(Holder::Older(older));
        }
        let mark = desired::token_mark(queue.spec.token_secret_ref.as_ref()?);
        // Who has the token already does not give it up for another's pods.
        if queue.spec.replicas == 0 || self.caches.is_up(owner, &mark) {
            return None;
        }
        let other = self.caches.other_user(owner, &mark)?;
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
        let queue = &*self.last_written.newest(queue);
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
