//! What a candidate asks its caller to do.

use serde_json::Value;

use crate::leadership::term::Term;
use crate::time::Moment;

/// What the caller has to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Read the Lease, then call [`Candidate::answered`](super::Candidate::answered).
    Read,
    /// Send this merge patch to the Lease, then call
    /// [`Candidate::answered`](super::Candidate::answered).
    Patch(Value),
    /// End the grants of this term and ask the queue task for the handover to the next leader,
    /// then call [`Candidate::settled`](super::Candidate::settled).
    Settle {
        /// The UID of the Lease.
        lease: String,
        /// The term that ends.
        term: Term,
    },
    /// Watch the Lease from this resource version on, instead of any older watch, and call
    /// [`Candidate::step`](super::Candidate::step) again.
    Watch(String),
    /// Close the watch and call [`Candidate::step`](super::Candidate::step) again.
    Unwatch,
    /// Wait until this moment or the next input, whichever is first; without a moment, until
    /// the next input.
    Wait(Option<Moment>),
}
