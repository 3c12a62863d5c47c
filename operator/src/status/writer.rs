//! Writes the status of a GatewayQueue if it has changed, and logs and records the change.

use std::borrow::Cow;

use jiff::{Timestamp, Unit};

use super::compute::unreadable;
use super::last_written::LastWritten;
use crate::api::{ConditionType, GatewayQueue, GatewayQueueStatus, Unreadable};
use crate::apply::requests::{Error, Requests};
use crate::desired::Owner;
use crate::events::{EventRecord, EventRecorder, Fault};

/// Writes the status of GatewayQueues.
pub struct StatusWriter {
    /// Makes the calls.
    pub requests: Requests,
    /// Records changes.
    pub events: EventRecorder,
    /// The status that was written last.
    pub last_written: LastWritten,
}

impl StatusWriter {
    /// Returns the GatewayQueue with its newest status, which the watch may not have returned.
    pub fn newest<'a>(&self, queue: &'a GatewayQueue) -> Cow<'a, GatewayQueue> {
        self.last_written.newest(queue)
    }

    /// Writes a status if it has changed.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn write(
        &self,
        queue: &GatewayQueue,
        owner: &Owner,
        status: &GatewayQueueStatus,
    ) -> Result<(), Error> {
        if self
            .write_if_changed(owner, queue.status.as_ref(), status)
            .await?
        {
            self.last_written.note(queue, status);
        }
        Ok(())
    }

    /// Reports that a GatewayQueue cannot be read.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn write_unreadable(&self, queue: &Unreadable, owner: &Owner) -> Result<(), Error> {
        let before = queue.status.as_ref();
        let generation = queue.metadata.generation;
        let status = unreadable(before, generation, &queue.error, wall_clock());
        self.write_if_changed(owner, before, &status).await?;
        Ok(())
    }

    async fn write_if_changed(
        &self,
        owner: &Owner,
        before: Option<&GatewayQueueStatus>,
        status: &GatewayQueueStatus,
    ) -> Result<bool, Error> {
        if before == Some(status) {
            return Ok(false);
        }
        self.requests.write_status(owner, status).await?;
        let ready = (ConditionType::Ready, EventRecord::ready(before, status));
        let faults =
            Fault::ALL.map(|fault| (fault.condition, EventRecord::fault(fault, before, status)));
        for (condition, event) in std::iter::once(ready).chain(faults) {
            let Some(event) = event else { continue };
            let (namespace, queue, condition) = (&owner.namespace, &owner.name, condition.as_str());
            let (reason, detail) = (event.reason.as_str(), &event.message);
            if event.is_warning {
                tracing::warn!(
                    namespace,
                    queue,
                    condition,
                    reason,
                    detail,
                    "condition changed"
                );
            } else {
                tracing::info!(
                    namespace,
                    queue,
                    condition,
                    reason,
                    detail,
                    "condition changed"
                );
            }
            self.events.record(owner, event);
        }
        Ok(true)
    }
}

/// The time, to the second as in Kubernetes.
pub(crate) fn wall_clock() -> Timestamp {
    let now = Timestamp::now();
    now.round(Unit::Second).unwrap_or(now)
}
