//! The record of everything that happened at the fake Discord.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

/// The response of `/record`. Times `t` are Unix milliseconds, for people; intervals are
/// measured by a monotonic clock.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Record {
    /// Grows with every change; `/record?after=VERSION` waits for the next one.
    pub version: u64,
    /// The counters.
    pub totals: Totals,
    /// The limits that `/gateway/bot` reports.
    pub session_start_limit: SessionStartLimit,
    /// Every identify, in the order of arrival.
    pub identifies: Vec<Identify>,
    /// The identifies that broke a rule.
    pub violations: Vec<Identify>,
    /// Every resumed session.
    pub resumes: Vec<Resume>,
    /// Every request for `/gateway/bot`.
    pub fetches: Vec<Fetch>,
}

/// The counters.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Identifies received.
    pub identifies: usize,
    /// Identifies answered with READY.
    pub ready: usize,
    /// Identifies that broke a rule.
    pub violations: usize,
    /// Sessions resumed.
    pub resumes: usize,
    /// Requests for `/gateway/bot`, whatever the response.
    pub fetches: usize,
}

/// One identify. Its time is that of the last byte of its frame.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Identify {
    /// The time of arrival.
    pub t: u64,
    /// The shard that identified.
    pub shard: u32,
    /// The bucket of the shard.
    pub bucket: u32,
    /// The shard of the previous identify of this bucket.
    pub previous_shard: Option<u32>,
    /// Milliseconds since that identify.
    pub since_last_ms: Option<f64>,
    /// The rule that it broke, if any.
    pub violation: Option<Breach>,
    /// The time at which READY had been sent.
    pub ready_t: Option<u64>,
}

/// A resumed session.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Resume {
    /// The time of arrival.
    pub t: u64,
    /// The shard that resumed.
    pub shard: u32,
}

/// A request for `/gateway/bot`.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Fetch {
    /// The time of the response.
    pub t: u64,
    /// The status of the response.
    pub status: u16,
}

/// The `session_start_limit` of `/gateway/bot`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct SessionStartLimit {
    /// Session starts in a window.
    pub total: u32,
    /// Session starts left in this window.
    pub remaining: u32,
    /// Milliseconds until the window ends; 0 if none is open.
    pub reset_after: u64,
    /// The number of buckets.
    pub max_concurrency: NonZeroU32,
}

/// A rule that an identify broke.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Breach {
    /// Less than the interval after another identify of its bucket.
    TooEarly,
    /// No session start was left.
    NoSessionStartLeft,
}
