//! The queue as JSON, for people and their scripts. Pure.

use std::net::SocketAddr;

use gateway_queue_logbook::{Hold, Token};
use jiff::Timestamp;
use serde::Serialize;

use crate::limits::Limits;
use crate::moment::Moment;
use crate::pacer::Lane;
use crate::standing::Role;

/// The queue at one moment, for people.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // The names are those of the queue and its budget.
pub struct Snapshot {
    pub taken: Moment,
    pub role: Role,
    pub leader: Option<SocketAddr>,
    pub token: Token,
    pub hold: Option<Hold>,
    pub trouble: Option<String>,
    /// Clients that this process holds, here or at the leader.
    pub held: u64,
    pub max_concurrency: Option<u32>,
    pub limits: Option<Limits>,
    pub remaining: Option<u64>,
    pub reset_time: Option<Timestamp>,
    pub lanes: Vec<Lane>,
}

#[derive(Serialize)]
struct State<'a> {
    role: &'static str,
    /// Where the leader takes hops, when that is another pod.
    leader: Option<SocketAddr>,
    token: &'static str,
    /// Why nothing is granted; null when shards may identify.
    hold: Option<&'static str>,
    trouble: Option<&'a str>,
    max_concurrency: Option<u32>,
    recommended_shards: Option<u32>,
    session_starts: Option<SessionStarts>,
    /// Those who wait in the buckets of the leader, so also for other pods.
    waiting: usize,
    /// The clients that this pod holds.
    held: u64,
    buckets: Vec<Bucket<'a>>,
}

#[derive(Serialize)]
struct SessionStarts {
    total: u64,
    remaining: u64,
    /// RFC 3339; null while no window is open.
    reset_time: Option<String>,
}

#[derive(Serialize)]
struct Bucket<'a> {
    bucket: u32,
    /// Until the next may go, or somebody who comes; null while nobody may.
    next_in_ms: Option<u128>,
    /// The shards that wait, the next one first.
    waiting: &'a [u32],
}

/// The JSON of /state.
///
/// # Errors
///
/// When it cannot be written as JSON; it has no reason to.
pub fn json(snapshot: &Snapshot) -> serde_json::Result<String> {
    let state = State {
        role: snapshot.role.word(),
        leader: snapshot.leader,
        token: snapshot.token.word(),
        hold: snapshot.hold.map(|hold| hold.word()),
        trouble: snapshot.trouble.as_deref(),
        max_concurrency: snapshot.max_concurrency,
        recommended_shards: snapshot.limits.map(|limits| limits.shards),
        session_starts: snapshot
            .limits
            .zip(snapshot.remaining)
            .map(|(limits, remaining)| SessionStarts {
                total: limits.total,
                remaining,
                reset_time: snapshot.reset_time.map(|time| time.to_string()),
            }),
        waiting: snapshot.lanes.iter().map(|lane| lane.waiting).sum(),
        held: snapshot.held,
        buckets: snapshot
            .lanes
            .iter()
            .map(|lane| Bucket {
                bucket: lane.bucket,
                next_in_ms: match (snapshot.hold, snapshot.role) {
                    (None, Role::Leads) => Some(lane.free_at.since(snapshot.taken).as_millis()),
                    _ => None,
                },
                waiting: &lane.shards,
            })
            .collect(),
    };
    serde_json::to_string(&state).map(|json| json + "\n")
}
