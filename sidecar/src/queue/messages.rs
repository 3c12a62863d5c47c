//! What waiters, permits and readers send to the queue task.

use gateway_queue_core::leadership::term::Term;
use gateway_queue_core::lease_state::Handover;
use gateway_queue_core::pacing::pacer::{Grant, WaiterId};
use gateway_queue_core::protocol::refusal::Refusal;
use gateway_queue_core::queue::snapshot::{Detail, Snapshot};
use gateway_queue_core::time::Moment;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::clock::stall_detector::Held;

/// Something happened to a waiter, or somebody wants to know.
#[derive(Debug)]
pub(crate) enum Event {
    Offer {
        waiter: WaiterId,
        shard: u32,
        /// When it came, to this process or to the one that sends it.
        arrived: Moment,
        turn: oneshot::Sender<Permit>,
        seat: OwnedSemaphorePermit,
    },
    Gone(WaiterId),
    /// Its patience is over. The sender is dropped when its turn has come.
    GiveUp(WaiterId, oneshot::Sender<Refusal>),
    Written {
        grant: Grant,
        at: Moment,
    },
    Unwritten(WaiterId),
    Look(Detail, oneshot::Sender<Snapshot>),
    /// What is left for the next leader of this Lease after this term, once no
    /// grant is on its way any more.
    Handover(String, Term, oneshot::Sender<Handover>),
}

/// Goes to the socket, from the queue task or from a leader elsewhere. It says what
/// became of a grant of ours: that it was written and when, or, when it is
/// dropped, that it was not.
#[derive(Debug)]
pub struct Permit(Kind);

#[derive(Debug)]
enum Kind {
    Own {
        grant: Grant,
        /// The fence: the right to grant ends then.
        until: Moment,
        events: UnboundedSender<Event>,
    },
    /// A leader elsewhere granted it, and counts it.
    Relayed(Held),
    Used,
}

impl Permit {
    /// For a grant of ours, which may be written before `until`.
    pub(crate) fn own(grant: Grant, until: Moment, events: UnboundedSender<Event>) -> Self {
        Self(Kind::Own {
            grant,
            until,
            events,
        })
    }

    /// For a leader's grant, which may be written while there is no further gap.
    pub(crate) fn relayed(held: Held) -> Self {
        Self(Kind::Relayed(held))
    }

    /// Whether a leader elsewhere granted it.
    pub fn is_relayed(&self) -> bool {
        matches!(self.0, Kind::Relayed(_))
    }

    /// Whether it may be written at `now`. It is asked in the moment before: a
    /// process may have been frozen since it got the permit.
    pub fn is_valid(&self, now: Moment) -> bool {
        match &self.0 {
            Kind::Own { until, .. } => now < *until,
            Kind::Relayed(held) => held.is_fresh(now),
            Kind::Used => false,
        }
    }

    /// The grant went out at `at`, or it cannot be ruled out that it did.
    pub fn written(mut self, at: Moment) {
        if let Kind::Own { grant, events, .. } = std::mem::replace(&mut self.0, Kind::Used) {
            // Without a queue task, the process is ending.
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
