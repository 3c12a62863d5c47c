//! What a candidate logs and counts.

use crate::leadership::election::Request;
use crate::leadership::state::Leader;

/// Something to log or count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request ended.
    Asked {
        /// The kind of request.
        request: Request,
        /// Whether it succeeded.
        succeeded: bool,
    },
    /// The Lease was read for the first time: the pod is ready.
    Ready,
    /// Requests of this kind fail. Reported once until they succeed again.
    Unreachable {
        /// The kind of request.
        request: Request,
        /// The error, which quotes the API server.
        error: String,
    },
    /// Requests of this kind succeed again.
    Reachable(Request),
    /// The queue task did not hand over in time, because a grant is still being written. The
    /// release of the Lease is retried.
    HandoverDelayed,
    /// The right to grant expired before a renewal succeeded.
    Expired,
    /// The right to grant was renewed, or the term ended.
    ExpiryEnded,
    /// This pod became the leader, with this name in its term.
    BecameLeader(String),
    /// This pod is no longer the leader, for this reason.
    LostLeadership(&'static str),
    /// The leader is a process that ran in this pod before it was restarted.
    FormerSelfIsLeader(String),
    /// Another pod became the leader.
    OtherBecameLeader(Leader),
    /// The GatewayQueue was deleted, so there is no next leader.
    Gone,
}
