//! Applies the children of a GatewayQueue that differ from the desired state.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::drift::{ChildState, deviations, is_leftover, is_orphan, state};
use super::drift_backoff::{DriftBackoff, Over, Report};
use super::requests::{Error, Requests};
use super::{Applied, Outcome};
use crate::api::{GatewayQueue, GatewayQueueSpec};
use crate::desired::{Child, Kind, Owner};
use crate::events::{EventRecord, EventRecorder};
use crate::observe::caches::Caches;
use crate::observe::token_claims::TokenClaims;

/// No watch reports changes of a child whose label admission removes.
const UNLABELLED_RECHECK: Duration = Duration::from_secs(60);

/// Applies children.
pub struct Applier {
    /// Makes the calls.
    pub requests: Requests,
    /// The observed objects.
    pub caches: Caches,
    /// Which GatewayQueues name which token.
    pub token_claims: Arc<TokenClaims>,
    /// When to revert children that another client keeps changing.
    pub drift_backoff: DriftBackoff,
    /// Records reverts.
    pub events: EventRecorder,
}

impl Applier {
    /// Applies the `children` that differ from the desired state, and deletes those that are
    /// no longer desired.
    ///
    /// The children of a new GatewayQueue are created without reading whether they exist, which
    /// would double the requests. If that fails, they are read.
    ///
    /// # Errors
    /// If a call fails; a rejection is part of the result.
    pub async fn apply(
        &self,
        queue: &GatewayQueue,
        children: &[Child],
        owner: &Owner,
        now: Instant,
    ) -> Result<Applied, Error> {
        let is_new = queue.status.is_none() && self.token_claims.is_new(queue);
        if is_new && self.create(queue, children, owner, now).await? {
            return Ok(Applied::new(Outcome::Applied));
        }
        let states = children
            .iter()
            .map(|child| self.state_of(child, owner, now));
        let states = try_join_all(states).await?;
        let mut applied = Applied::new(Outcome::Applied);
        let with_state = |wanted: fn(&ChildState) -> bool| {
            let all = children.iter().zip(&states);
            all.filter(move |(_, state)| wanted(state))
                .map(|(child, _)| child.kind)
        };
        let foreign: Vec<Kind> = with_state(|state| *state == ChildState::Foreign).collect();
        if !foreign.is_empty() {
            let is_lease_foreign = foreign.contains(&Kind::Lease);
            applied.outcome = Outcome::NameTaken(foreign);
            // Nothing is created next to an object that this GatewayQueue does not own, and its
            // pods must not write the Lease of another owner.
            if is_new || is_lease_foreign {
                let is_kept = |kind| !is_new && kind != Kind::Deployment;
                let deleted = children.iter().filter(|child| !is_kept(child.kind));
                self.delete_created(deleted, owner).await?;
                return Ok(applied);
            }
            // What exists is still updated: a queue may have to give up its token.
            let is_ours = |state: &ChildState| {
                matches!(
                    state,
                    ChildState::Drifted { .. }
                        | ChildState::Unobserved { .. }
                        | ChildState::UpToDate
                )
            };
            if !with_state(is_ours).any(|kind| kind == Kind::Deployment) {
                return Ok(applied);
            }
        }
        let is_missing =
            |kind| with_state(|state| *state == ChildState::Missing).any(|missing| missing == kind);
        let never_led = is_missing(Kind::Lease)
            && is_missing(Kind::Deployment)
            && self.may_be_first(queue, owner, now);
        for (child, state) in children.iter().zip(states) {
            let version = match &state {
                ChildState::Terminating | ChildState::UpToDate => {
                    if self.caches.metadata(child.kind, owner).is_none() {
                        applied.recheck_at(now + UNLABELLED_RECHECK);
                    }
                    continue;
                }
                ChildState::Foreign => continue,
                ChildState::Unobserved { until } => {
                    applied.recheck_at(*until);
                    continue;
                }
                ChildState::WrongToken { uid } => {
                    let deleted = self.delete(child.kind, owner, uid.as_deref()).await;
                    applied.keep_rejection(deleted, child.kind)?;
                    continue;
                }
                ChildState::Drifted { version, .. } => version.as_deref(),
                ChildState::Missing => None,
            };
            let not_before =
                self.drift_backoff
                    .not_before(owner, child.kind, &child.hash, version, now);
            if let Some(at) = not_before {
                applied.recheck_at(at);
                continue;
            }
            let first = (never_led && child.kind == Kind::Lease).then_some(&queue.spec);
            let written = self.write(child, owner, &state, first).await;
            let Some(response) = applied.keep_rejection(written, child.kind)? else {
                continue;
            };
            self.report(queue, child, owner, &state, response.as_ref(), now);
            let existed = matches!(state, ChildState::Drifted { .. });
            let is_cached = self.caches.metadata(child.kind, owner).is_some();
            applied.labelled |= existed && !is_cached;
        }
        for kind in Kind::OPTIONAL {
            if children.iter().any(|child| child.kind == kind) {
                continue;
            }
            if let Some(leftover) = self.leftover(kind, owner).await? {
                // A newer GatewayQueue of the name may use it.
                if is_orphan(owner, &leftover) && !self.requests.is_current(owner).await? {
                    continue;
                }
                let deleted = self.delete(kind, owner, leftover.uid.as_deref()).await;
                applied.keep_rejection(deleted, kind)?;
            }
            if applied.error.is_none() {
                self.drift_backoff.forget(owner, kind);
            }
        }
        Ok(applied)
    }

    /// Whether no pod can have led with the token of this GatewayQueue lately, given that it has
    /// neither a Lease nor a Deployment. Not if a Lease is replaced, whose leader may have granted
    /// a moment ago, nor if another queue may have done so.
    pub(super) fn may_be_first(&self, queue: &GatewayQueue, owner: &Owner, now: Instant) -> bool {
        queue.status.is_none()
            && self.token_claims.is_fresh(queue, now)
            && self.caches.pods(owner).is_empty()
            && !self.caches.lease_observer.led_lately(owner, now)
    }

    pub(super) async fn delete(
        &self,
        kind: Kind,
        owner: &Owner,
        uid: Option<&str>,
    ) -> Result<(), Error> {
        self.requests.delete(kind, owner, uid).await?;
        // If it is created again, no other client has deleted it.
        self.drift_backoff.forget(owner, kind);
        self.drift_backoff.note_missing(owner, kind);
        let (namespace, name) = (&owner.namespace, &owner.name);
        tracing::info!(namespace, queue = name, kind = kind.as_str(), "deleted");
        Ok(())
    }

    /// The object of a kind that is not desired and that the operator created. If the cache
    /// has none, the API server is asked once: it may lack the operator's label.
    async fn leftover(&self, kind: Kind, owner: &Owner) -> Result<Option<ObjectMeta>, Error> {
        let cached = self.caches.metadata(kind, owner);
        if cached.is_some() || self.drift_backoff.is_missing(owner, kind) {
            return Ok(cached.filter(|cached| is_leftover(owner, cached)));
        }
        let found = self.requests.find(kind, owner).await?;
        let found = found.filter(|found| is_leftover(owner, found));
        if found.is_none() {
            self.drift_backoff.note_missing(owner, kind);
        }
        Ok(found)
    }

    /// The state of a child. If the cache does not have it, the API server is asked: the
    /// cache may lag behind, and does not contain objects without the operator's label. It is
    /// not asked about a child that was applied a moment ago.
    async fn state_of(
        &self,
        child: &Child,
        owner: &Owner,
        now: Instant,
    ) -> Result<ChildState, Error> {
        let Child { kind, hash, .. } = child;
        let cached = self.caches.metadata(*kind, owner);
        if cached.is_some() {
            self.drift_backoff.observed(owner, *kind);
        } else if let Some(until) = self.drift_backoff.unobserved_until(owner, *kind, hash, now) {
            return Ok(ChildState::Unobserved { until });
        }
        let observed = match cached {
            None => self.requests.find(*kind, owner).await?,
            cached => cached,
        };
        let state = self.state(child, owner, observed.as_ref());
        let adopts = matches!(
            state,
            ChildState::Drifted { .. } | ChildState::WrongToken { .. }
        ) && observed.is_some_and(|observed| is_orphan(owner, &observed));
        // The garbage collector would delete what is adopted for a GatewayQueue that is being
        // deleted without its children; and a newer one of the name may use the Lease.
        if adopts && !self.requests.is_current(owner).await? {
            return Ok(ChildState::Terminating);
        }
        Ok(state)
    }

    fn state(&self, child: &Child, owner: &Owner, observed: Option<&ObjectMeta>) -> ChildState {
        let accepted = self.drift_backoff.rewritten(owner, child.kind, &child.hash);
        state(child, owner, observed, &accepted)
    }

    /// Creates or reverts a child. Returns its metadata, if this call has written it.
    async fn write(
        &self,
        child: &Child,
        owner: &Owner,
        state: &ChildState,
        never_led: Option<&GatewayQueueSpec>,
    ) -> Result<Option<ObjectMeta>, Error> {
        let written = match (state, never_led) {
            (ChildState::Drifted { uid, .. }, _) => {
                self.requests.revert(child, owner, uid.as_deref()).await
            }
            (_, Some(spec)) => self.requests.create_first_lease(owner, spec).await,
            (_, None) => match self.requests.create(child, owner).await {
                // Another operator was faster, or an earlier call of ours that timed out.
                Err(error) if error.is_conflict() && self.is_ours(child, owner).await? => {
                    return Ok(None);
                }
                created => created,
            },
        };
        written.map(Some)
    }

    /// Whether the child exists by now and is ours.
    async fn is_ours(&self, child: &Child, owner: &Owner) -> Result<bool, Error> {
        let found = self.requests.find(child.kind, owner).await?;
        let state = self.state(child, owner, found.as_ref());
        Ok(matches!(
            state,
            ChildState::UpToDate | ChildState::Drifted { .. }
        ))
    }

    /// Logs an apply. Reports a reverted change of another client, and the fields that admission
    /// rewrites: these differ already in the `response` to the apply.
    pub(super) fn report(
        &self,
        queue: &GatewayQueue,
        child: &Child,
        owner: &Owner,
        state: &ChildState,
        response: Option<&ObjectMeta>,
        now: Instant,
    ) {
        let (namespace, name) = (&owner.namespace, &owner.name);
        tracing::info!(
            namespace,
            queue = name,
            kind = child.kind.as_str(),
            "applied"
        );
        let over = match state {
            ChildState::Drifted {
                version, edited, ..
            } => Over {
                version: version.as_deref(),
                edited: *edited,
            },
            // It existed, whichever operator created it.
            _ => Over {
                version: None,
                edited: !Kind::OPTIONAL.contains(&child.kind)
                    && queue
                        .status
                        .as_ref()
                        .is_some_and(|status| status.is_applied(queue.metadata.generation)),
            },
        };
        let rewritten = response
            .map(|response| deviations(child, response))
            .unwrap_or_default();
        let Child { kind, hash, .. } = child;
        let fields: Vec<&str> = rewritten.iter().map(|one| one.field.as_str()).collect();
        let event = EventRecord::rewritten(*kind, owner, fields);
        match self
            .drift_backoff
            .applied(owner, *kind, hash, over, rewritten, now)
        {
            Report::Nothing => {}
            Report::Reverted(count) => {
                if let Some(event) = EventRecord::reverted(*kind, owner, count) {
                    self.events.record(owner, event);
                }
            }
            Report::Rewritten => {
                let (kind, detail) = (kind.as_str(), &event.message);
                tracing::warn!(
                    namespace,
                    queue = name,
                    kind,
                    detail,
                    "admission rewrote a child"
                );
                self.events.record(owner, event);
            }
        }
    }
}
