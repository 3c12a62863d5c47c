//! What goes into a pod and what comes out of it.

use std::sync::Arc;

use gateway_queue_core::pacing::budget::Outcome;
use gateway_queue_core::pacing::pacer::Grant;
use gateway_queue_core::time::Moment;

use crate::api::{Answer, Request, Sent};
use crate::clock::True;
use crate::judge::Written;

/// What comes to a pod.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// A timer.
    Wake,
    /// An answer of the API server to this request.
    Answer(u64, Answer),
    /// No answer came to this request in time.
    TimedOut(u64),
    /// This watch shows the Lease.
    Seen(u64, Arc<Sent>),
    /// This watch has ended.
    WatchEnded(u64),
    /// What came of this fetch.
    Fetched(u64, Outcome),
    /// A shard asks for its turn.
    Client(u32),
    /// The writer of a grant gets to run.
    Write(Held),
    /// SIGTERM.
    Terminate,
}

/// A grant that is not written yet.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) term: u64,
    pub(crate) grant: Grant,
    /// The fence.
    pub(crate) until: Moment,
    pub(crate) buckets: u32,
}

/// What a pod does to the world.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    Send(u64, Request),
    /// Watches the Lease from this version on.
    Watch(u64, String),
    Fetch(u64),
    Written(u32, Written),
    /// The fence refused the write.
    Refused,
    /// It was stopped, just now, for so long.
    Stopped(True),
    /// A term began, after a release or not.
    Leads {
        released: bool,
    },
    /// That term began with what the lease state said.
    Adopted,
    WakeAt(Moment),
    Gone,
}
