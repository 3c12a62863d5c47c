//! The messages to the queue task, and the permits that it grants.

use gateway_queue_core::leadership::term::Term;
use gateway_queue_core::lease_state::Handover;
use gateway_queue_core::pacing::pacer::{Grant, WaiterId};
use gateway_queue_core::protocol::refusal::Refusal;
use gateway_queue_core::protocol::request::{Report, Shard};
use gateway_queue_core::queue::snapshot::{Detail, Snapshot};
use gateway_queue_core::time::Moment;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::clock::stall_detector::HeldRequest;

/// An event of a waiter, or a query.
#[derive(Debug)]
pub(crate) enum Event {
    Offer {
        waiter: WaiterId,
        shard: Shard,
        /// When the request arrived, at this process or at the pod that forwards it.
        arrived: Moment,
        permit: oneshot::Sender<Permit>,
        /// Released when the waiter has been granted or has disconnected.
        _connection_permit: OwnedSemaphorePermit,
    },
    Disconnected(WaiterId),
    /// The deadline of the waiter has passed. The sender is dropped if it was granted.
    GiveUp(WaiterId, oneshot::Sender<Refusal>),
    Written {
        grant: Grant,
        at: Moment,
    },
    Unwritten(WaiterId),
    /// A client reports something about its shard.
    Report {
        shard: u32,
        report: Report,
        /// Released when the report has been handled.
        _connection_permit: OwnedSemaphorePermit,
    },
    Look(Detail, oneshot::Sender<Snapshot>),
    /// Asks for the handover to the next leader of this Lease, once no grant is in flight.
    Handover(String, Term, oneshot::Sender<Handover>),
}

/// The permission to write one grant to a socket. It reports to the queue task when a
/// grant of this process was written, or, if it is dropped, that it was not.
#[derive(Debug)]
pub struct Permit(Kind);

#[derive(Debug)]
enum Kind {
    Own {
        grant: Grant,
        /// When the right to grant ends.
        until: Moment,
        events: UnboundedSender<Event>,
    },
    /// A grant of another leader, which counts it.
    Relayed(HeldRequest),
    Used,
}

impl Permit {
    /// Returns a permit for a grant of this process, valid before `until`.
    pub(crate) fn own(grant: Grant, until: Moment, events: UnboundedSender<Event>) -> Self {
        Self(Kind::Own {
            grant,
            until,
            events,
        })
    }

    /// Returns a permit for a grant of another leader, valid until this process stalls.
    pub(crate) fn relayed(held: HeldRequest) -> Self {
        Self(Kind::Relayed(held))
    }

    /// Returns whether another leader granted it.
    pub fn is_relayed(&self) -> bool {
        matches!(self.0, Kind::Relayed(_))
    }

    /// Returns whether the grant may be written at `now`. Must be checked immediately
    /// before: the process may have been suspended since it received the permit.
    pub fn is_valid(&self, now: Moment) -> bool {
        match &self.0 {
            Kind::Own { until, .. } => now < *until,
            Kind::Relayed(held) => held.is_fresh(now),
            Kind::Used => false,
        }
    }

    /// Reports that the grant was written at `at`, or may have been.
    pub fn written(mut self, at: Moment) {
        if let Kind::Own { grant, events, .. } = std::mem::replace(&mut self.0, Kind::Used) {
            // Without a queue task, the process ends.
            let _ = events.send(Event::Written { grant, at });
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Kind::Own { grant, events, .. } = &self.0 {
            let _ = events.send(Event::Unwritten(grant.waiter));
        }
    }
}
