//! Applies the children of a GatewayQueue that differ from the desired state.

use std::time::Instant;

use futures::future::try_join_all;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::{GatewayQueue, GatewayQueueSpec};
use crate::apply::drift::{ChildState, deviations, is_leftover, is_orphan, state};
use crate::apply::drift_backoff::{Applied, Over};
use crate::apply::requests;
use crate::desired::{self, Child, Kind, Owner};
use crate::events::recorder;
use crate::reconcile::context::{Context, Error};
use crate::status::{Outcome, was_applied};

/// What came of it.
pub(crate) struct Converged {
    /// For the status.
    pub(crate) outcome: Outcome,
    /// A refusal, to be tried again.
    pub(crate) error: Option<Error>,
    /// When to revert a child that another client keeps changing.
    pub(crate) again: Option<Instant>,
    /// A child that is in no store, because it lacked the operator's label, has it now:
    /// its watch will bring it.
    pub(crate) labelled: bool,
}

/// No children can be made.
impl From<desired::Error> for Converged {
    fn from(error: desired::Error) -> Self {
        Self {
            outcome: Outcome::Invalid(error.to_string()),
            error: Some(error.into()),
            again: None,
            labelled: false,
        }
    }
}

impl Converged {
    /// Keeps the first refusal for later, since a child that is refused does not
    /// keep the others from what they need. Any other error comes back.
    fn note<T>(
        &mut self,
        result: Result<T, requests::Error>,
        kind: Kind,
    ) -> Result<Option<T>, Error> {
        let error = match result {
            Ok(done) => return Ok(Some(done)),
            Err(error) => error,
        };
        let Some(message) = error.refusal().filter(|_| !error.namespace_ends()) else {
            return Err(error.into());
        };
        if self.error.is_none() {
            let message = message.to_owned();
            self.outcome = Outcome::Refused { kind, message };
            self.error = Some(error.into());
        }
        Ok(None)
    }

    /// Nothing more could be done.
    pub(crate) fn failed(error: Error) -> Self {
        Self {
            outcome: Outcome::Failed(error.to_string()),
            error: Some(error),
            again: None,
            labelled: false,
        }
    }

    fn look_again(&mut self, at: Instant) {
        self.again = self.again.into_iter().chain([at]).min();
    }
}

impl Context {
    /// Applies the `children` that differ from the desired state, and deletes those that are
    /// not desired any more.
    ///
    /// # Errors
    /// When a call fails, but for a refusal, which is in the outcome.
    pub(crate) async fn converge(
        &self,
        queue: &GatewayQueue,
        children: &[Child],
        owner: &Owner,
        now: Instant,
    ) -> Result<Converged, Error> {
        let states = children.iter().map(|child| self.state_of(child, owner));
        let states = try_join_all(states).await?;
        let mut converged = Converged {
            outcome: Outcome::Applied,
            error: None,
            again: None,
            labelled: false,
        };
        let strangers: Vec<_> = children
            .iter()
            .zip(&states)
            .filter(|(_, state)| **state == ChildState::Foreign)
            .map(|(child, _)| child.kind)
            .collect();
        if !strangers.is_empty() {
            converged.outcome = Outcome::NameTaken(strangers);
            // Nothing is created beside an object that this GatewayQueue does not own. What
            // exists is kept as desired: a queue that has to stand down does so.
            let mut all = children.iter().zip(&states);
            let begun = all.any(|(child, state)| {
                let ours = matches!(state, ChildState::Drifted { .. } | ChildState::UpToDate);
                child.kind == Kind::Deployment && ours
            });
            if !begun {
                return Ok(converged);
            }
        }
        let absent = |kind| {
            let mut all = children.iter().zip(&states);
            all.any(|(child, state)| child.kind == kind && *state == ChildState::Missing)
        };
        // Never said of a Lease that takes the place of another, whose leader may
        // have granted a moment ago, nor where another queue may have done so.
        let never_led = absent(Kind::Lease)
            && absent(Kind::Deployment)
            && queue.status.is_none()
            && self.token_claims.is_fresh(queue, now)
            && self.caches.pods(owner).is_empty()
            && !self.caches.lease_observer.led_lately(owner, now);
        for (child, state) in children.iter().zip(states) {
            let version = match &state {
                ChildState::Terminating | ChildState::UpToDate | ChildState::Foreign => continue,
                ChildState::WrongToken { uid } => {
                    self.remove(&mut converged, child.kind, owner, uid.as_deref())
                        .await?;
                    continue;
                }
                ChildState::Drifted { version, .. } => version.as_deref(),
                ChildState::Missing => None,
            };
            let at = self
                .drift_backoff
                .not_before(owner, child.kind, &child.mark, version, now);
            if let Some(at) = at {
                converged.look_again(at);
                continue;
            }
            let first = never_led && child.kind == Kind::Lease;
            let first = first.then_some(&queue.spec);
            let applied = self.put(child, owner, &state, first).await;
            if let Some(answer) = converged.note(applied, child.kind)? {
                let (namespace, name) = (&owner.namespace, &owner.name);
                tracing::info!(
                    namespace,
                    queue = name,
                    kind = child.kind.as_str(),
                    "applied"
                );
                self.note_applied(queue, child, owner, &state, answer.as_ref(), now);
                let was_there = matches!(state, ChildState::Drifted { .. });
                let is_seen = self.caches.metadata(child.kind, owner).is_some();
                converged.labelled |= was_there && !is_seen;
            }
        }
        for kind in Kind::OPTIONAL {
            if children.iter().any(|child| child.kind == kind) {
                continue;
            }
            if let Some(unwanted) = self.unwanted(kind, owner).await? {
                // A newer GatewayQueue of the name may want it.
                if is_orphan(owner, &unwanted) && !self.cluster.is_current(owner).await? {
                    continue;
                }
                self.remove(&mut converged, kind, owner, unwanted.uid.as_deref())
                    .await?;
            }
            if converged.error.is_none() {
                self.drift_backoff.forget(owner, kind);
            }
        }
        Ok(converged)
    }

    async fn remove(
        &self,
        converged: &mut Converged,
        kind: Kind,
        owner: &Owner,
        uid: Option<&str>,
    ) -> Result<(), Error> {
        let deleted = self.cluster.delete(kind, owner, uid).await;
        if converged.note(deleted, kind)?.is_some() {
            // If it is made again one day, nobody else has deleted it.
            self.drift_backoff.forget(owner, kind);
            self.drift_backoff.note_missing(owner, kind);
            let (namespace, name) = (&owner.namespace, &owner.name);
            tracing::info!(namespace, queue = name, kind = kind.as_str(), "deleted");
        }
        Ok(())
    }

    /// What the operator made of a kind that is not wanted. One that the store does not
    /// have is looked for once: it may have lost its label, or never had it.
    async fn unwanted(
        &self,
        kind: Kind,
        owner: &Owner,
    ) -> Result<Option<ObjectMeta>, requests::Error> {
        let seen = self.caches.metadata(kind, owner);
        if seen.is_some() || self.drift_backoff.is_missing(owner, kind) {
            return Ok(seen.filter(|seen| is_leftover(owner, seen)));
        }
        let found = self.cluster.find(kind, owner).await?;
        let found = found.filter(|found| is_leftover(owner, found));
        if found.is_none() {
            self.drift_backoff.note_missing(owner, kind);
        }
        Ok(found)
    }

    /// The state of a child. One that the store does not have is asked for: the
    /// store may lag behind, and a stranger's is not in it.
    async fn state_of(&self, child: &Child, owner: &Owner) -> Result<ChildState, requests::Error> {
        let observed = match self.caches.metadata(child.kind, owner) {
            Some(observed) => Some(observed),
            None => self.cluster.find(child.kind, owner).await?,
        };
        let state = self.state(child, owner, observed.as_ref());
        let takes = matches!(
            state,
            ChildState::Drifted { .. } | ChildState::WrongToken { .. }
        ) && observed.is_some_and(|observed| is_orphan(owner, &observed));
        // What is adopted for a GatewayQueue that is being deleted without its children, the
        // garbage collector would delete; and a newer one of the name may want the Lease
        // that this one would replace.
        if takes && !self.cluster.is_current(owner).await? {
            return Ok(ChildState::Terminating);
        }
        Ok(state)
    }

    fn state(&self, child: &Child, owner: &Owner, observed: Option<&ObjectMeta>) -> ChildState {
        let accepted = self.drift_backoff.rewritten(owner, child.kind, &child.mark);
        state(child, owner, observed, &accepted)
    }

    /// Applies a child. The metadata that it has then, if this call has made it so.
    async fn put(
        &self,
        child: &Child,
        owner: &Owner,
        state: &ChildState,
        never_led: Option<&GatewayQueueSpec>,
    ) -> Result<Option<ObjectMeta>, requests::Error> {
        let applied = match (state, never_led) {
            (ChildState::Drifted { uid, .. }, _) => {
                self.cluster.repair(child, owner, uid.as_deref()).await
            }
            (_, Some(spec)) => self.cluster.create_first_lease(owner, spec).await,
            (_, None) => match self.cluster.create(child, owner).await {
                // Another operator was quicker, or a call of ours that was given up.
                Err(error) if error.is_conflict() && self.is_ours(child, owner).await? => {
                    return Ok(None);
                }
                created => created,
            },
        };
        applied.map(Some)
    }

    /// Whether there is a child of ours by now. What it lacks, its watch will tell.
    async fn is_ours(&self, child: &Child, owner: &Owner) -> Result<bool, requests::Error> {
        let there = self.cluster.find(child.kind, owner).await?;
        let state = self.state(child, owner, there.as_ref());
        Ok(matches!(
            state,
            ChildState::UpToDate | ChildState::Drifted { .. }
        ))
    }

    /// Reports a change by another client that was reverted, and the fields that admission
    /// rewrites: these differ already in the `answer` to the apply.
    fn note_applied(
        &self,
        queue: &GatewayQueue,
        child: &Child,
        owner: &Owner,
        state: &ChildState,
        answer: Option<&ObjectMeta>,
        now: Instant,
    ) {
        let over = match state {
            ChildState::Drifted {
                version, edited, ..
            } => Over {
                version: version.as_deref(),
                edited: *edited,
            },
            // It was there, however long ago that was, and whichever operator made it.
            _ => Over {
                version: None,
                edited: !Kind::OPTIONAL.contains(&child.kind)
                    && was_applied(queue.status.as_ref(), queue.metadata.generation),
            },
        };
        let rewritten = answer
            .map(|answer| deviations(child, answer))
            .unwrap_or_default();
        let Child { kind, mark, .. } = child;
        let applied = self
            .drift_backoff
            .applied(owner, *kind, mark, over, rewritten.clone(), now);
        match applied {
            Applied::Made => {}
            Applied::Reverted(count) => {
                if let Some(note) = recorder::repair(*kind, owner, count) {
                    self.events.leave(owner, note);
                }
            }
            Applied::Rewritten => {
                let note = recorder::rewritten(*kind, owner, &rewritten);
                let (namespace, name, why) = (&owner.namespace, &owner.name, &note.message);
                tracing::warn!(namespace, queue = name, why, "admission rewrites a child");
                self.events.leave(owner, note);
            }
        }
    }
}
