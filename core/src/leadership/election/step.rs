//! The requests of an election, and their results.

use std::time::Duration;

use crate::lease_state::HandoverRecord;
use crate::names::named;
use crate::time::Moment;

/// A Lease at one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The UID. A Lease that was deleted and created again has another one.
    pub uid: String,
    /// The resource version, which changes with every write and has no order.
    pub version: String,
    /// The holder; none if the Lease was released.
    pub holder: Option<String>,
    /// How long the holder is considered the leader after its last renewal.
    pub duration: Option<Duration>,
    /// The handover of the last leader.
    pub handover: Option<HandoverRecord>,
    /// The address for forwarded requests, as the leader wrote it.
    pub address: Option<String>,
}

/// What to do next: at most one request at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read the Lease.
    Read,
    /// Change the Lease, if it still has this version.
    Write(Write),
    /// Wait until this moment; without one, until the next input.
    Wait(Option<Moment>),
}

/// A change of one version of the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The UID of the Lease.
    pub uid: String,
    /// The resource version that is changed.
    pub version: String,
    /// The kind of change.
    pub kind: Kind,
}

/// The kind of change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Become the holder with this name, and remove what the last leader wrote: the handover
    /// and the fingerprint that makes its published session starts valid.
    Take(String),
    /// Stay the holder.
    Renew,
    /// Release the Lease, with a handover.
    Release,
}

named! {
    /// A kind of request to the API server.
    pub enum Request {
        /// Reads the Lease.
        Read = "read",
        /// Makes this pod the holder.
        Take = "take",
        /// Renews the Lease of this pod.
        Renew = "renew",
        /// Releases the Lease, with a handover.
        Release = "release",
    }
}

impl Kind {
    pub(super) fn request(&self) -> Request {
        match self {
            Self::Take(_) => Request::Take,
            Self::Renew => Request::Renew,
            Self::Release => Request::Release,
        }
    }
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The Lease does not exist.
    #[error("the Lease does not exist")]
    Missing,
    /// The Lease has another UID or resource version by now.
    #[error("another client has written to the Lease")]
    Conflict,
    /// The API server denies this pod access, with a message that quotes it.
    #[error("{0}")]
    Denied(String),
    /// Any other error, or no response, with a message that quotes the API server. It may execute
    /// the request before or after this, or never.
    #[error("{0}")]
    Other(String),
}
