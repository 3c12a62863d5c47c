//! The inputs and the effects of a pod.

use std::sync::Arc;

use gateway_queue_core::pacing::discord_retry::Outcome;
use gateway_queue_core::pacing::pacer::Grant;
use gateway_queue_core::protocol::request::Report;
use gateway_queue_core::testing::judge::Written;
use gateway_queue_core::time::Moment;

use crate::api::{Answer, Request, Sent};
use crate::clock::True;

/// An input of a pod.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// A timer.
    Wake,
    /// An answer of the API server to this request.
    Answer(u64, Answer),
    /// This request got no answer in time.
    TimedOut(u64),
    /// An event of this watch.
    Watched(u64, Arc<Sent>),
    /// This watch has ended.
    WatchEnded(u64),
    /// The result of this fetch.
    Fetched(u64, Outcome),
    /// A shard asks for a grant.
    Client(u32),
    /// A client reports something about its shard.
    Report(u32, Report),
    /// A grant is about to be written.
    Write(Held),
    /// SIGTERM.
    Terminate,
}

/// A grant that is not written yet.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) term: u64,
    pub(crate) grant: Grant,
    /// The instant from which it must not be written.
    pub(crate) until: Moment,
    pub(crate) buckets: u32,
}

/// An effect of a pod.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    Send(u64, Request),
    /// It watches the Lease from this version on.
    Watch(u64, String),
    Fetch(u64),
    Written(u32, Written),
    /// The grant was too late to be written.
    TooLate,
    /// It is suspended now, for so long.
    Suspended(True),
    /// A term began, after a release or not.
    Leads {
        released: bool,
    },
    /// That term began with the published budget.
    Adopted,
    WakeAt(Moment),
    Gone,
}
