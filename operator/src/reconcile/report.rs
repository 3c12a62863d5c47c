//! Writes the status of a GatewayQueue when it says something new, and tells the
//! log and the events of it.

use std::time::Instant;

use jiff::{Timestamp, Unit};
use kube::runtime::controller::Action;

use crate::api::{GatewayQueue, GatewayQueueStatus, Unreadable};
use crate::desired::Owner;
use crate::events::recorder::{reachability, transition};
use crate::observe::leader::{Leader, leader};
use crate::reconcile::context::{Context, Error};
use crate::status::{Evidence, Outcome, status, unreadable};

impl Context {
    /// Says who leads.
    ///
    /// # Errors
    /// When the status cannot be written.
    pub(crate) async fn report(
        &self,
        queue: &GatewayQueue,
        owner: &Owner,
        outcome: &Outcome,
        mark: Option<&str>,
        now: Instant,
    ) -> Result<Leader, Error> {
        let deployment = self.caches.deployment(owner);
        let lease = self.caches.lease(owner);
        let seen = self.caches.lease_observer.of(owner);
        let leader = leader(lease.as_deref(), seen, queue.status.as_ref(), now);
        let evidence = Evidence {
            outcome,
            deployment: deployment.as_deref(),
            pods: &self.caches.pods(owner),
            mark,
            lease: lease.as_deref(),
            leader: &leader,
        };
        let new = status(queue, owner, evidence, wall_clock());
        if self.tell(owner, queue.status.as_ref(), &new).await? {
            self.last_written.note(queue, &new);
        }
        Ok(leader)
    }

    /// Says of a GatewayQueue that it cannot be read.
    ///
    /// # Errors
    /// When the status cannot be written.
    pub(crate) async fn report_unreadable(&self, queue: &Unreadable) -> Result<Action, Error> {
        if queue.metadata.deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        let owner = Owner::by(&queue.metadata)?;
        let before = queue.status.as_ref();
        let generation = queue.metadata.generation;
        let new = unreadable(before, generation, &queue.why, wall_clock());
        self.tell(&owner, before, &new).await?;
        Ok(Action::await_change())
    }

    /// Whether there was something to tell.
    async fn tell(
        &self,
        owner: &Owner,
        before: Option<&GatewayQueueStatus>,
        new: &GatewayQueueStatus,
    ) -> Result<bool, Error> {
        if before == Some(new) {
            return Ok(false);
        }
        self.cluster.write_status(owner, new).await?;
        if let Some(note) = transition(before, new) {
            let (namespace, queue) = (&owner.namespace, &owner.name);
            let (reason, why) = (&note.reason, &note.message);
            match note.warns {
                true => {
                    tracing::warn!(namespace, queue, reason, why, "the condition Ready changed")
                }
                false => {
                    tracing::info!(namespace, queue, reason, why, "the condition Ready changed")
                }
            }
            self.events.leave(owner, note);
        }
        if let Some(note) = reachability(before, new) {
            let (namespace, queue) = (&owner.namespace, &owner.name);
            match note.warns {
                true => tracing::warn!(
                    namespace,
                    queue,
                    why = note.message,
                    "a pod cannot reach the leader"
                ),
                false => tracing::info!(namespace, queue, "every pod reaches the leader again"),
            }
            self.events.leave(owner, note);
        }
        Ok(true)
    }
}

/// The time, to the second as Kubernetes keeps it.
fn wall_clock() -> Timestamp {
    let now = Timestamp::now();
    now.round(Unit::Second).unwrap_or(now)
}
