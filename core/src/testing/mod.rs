//! Test support for several crates: models of Discord and of the API server in simulated time,
//! a player of stories, and snapshots.

// A test fails by panicking.
#![allow(clippy::missing_panics_doc, clippy::unwrap_used, missing_docs)]

pub mod judge;
pub mod lease;
pub mod story;

use std::time::Duration;

use serde_json::Value;

use crate::leadership::leader_health::Health;
use crate::leadership::state::Role;
use crate::lease_state::TokenState;
use crate::pacing::pacer::Lane;
use crate::queue::snapshot::{About, LeaderView, Snapshot};
use crate::time::Moment;

/// The fields of /state that only a leader has.
const LEADER_FIELDS: [&str; 9] = [
    "blocked_by",
    "last_error",
    "max_concurrency",
    "recommended_shards",
    "session_starts",
    "next_fetch_in_ms",
    "last_grants",
    "crash_looping",
    "shards",
];

/// Returns the fields of a leader that are set in this /state.
pub fn leader_fields(state: &Value) -> Vec<&'static str> {
    let is_set = |field: &&str| match &state[*field] {
        Value::Null => false,
        Value::Array(list) => !list.is_empty(),
        _ => true,
    };
    LEADER_FIELDS.into_iter().filter(is_set).collect()
}

pub fn about() -> About {
    About {
        pod: None,
        admin_port: 9090,
        spacing: Duration::from_millis(5250),
        reserve: 0,
        upstream: None,
    }
}

/// Returns the snapshot of a leader with this many waiters in each bucket.
pub fn leader(lanes: &[usize]) -> Snapshot {
    let lane = |(bucket, waiting): (u32, &usize)| Lane {
        bucket,
        free_at: Moment::ZERO,
        waiting: *waiting,
        shards: (0..*waiting as u32).collect(),
    };
    Snapshot {
        taken: Moment::from_nanos(9_000_000_000),
        role: Role::Leader,
        leader: None,
        leader_pod: None,
        leader_silent: false,
        leader_health: Health::NoLeader,
        token: TokenState::Accepted,
        last_error: None,
        held_requests: 0,
        leader_view: Some(LeaderView {
            blocked_by: None,
            fetch_at: None,
            max_concurrency: Some(lanes.len() as u32),
            limits: None,
            remaining: None,
            reset_time: None,
            granted: Vec::new(),
            crash_looping_count: 0,
            crash_looping: Vec::new(),
            shards: Vec::new(),
        }),
        waiting: lanes.iter().sum(),
        buckets: lanes.len(),
        lanes: (0..).zip(lanes).map(lane).collect(),
    }
}

pub fn view(snapshot: &mut Snapshot) -> &mut LeaderView {
    snapshot.leader_view.as_mut().unwrap()
}
