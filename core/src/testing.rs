//! What tests of several crates need.

// A test fails by panicking.
#![allow(clippy::missing_panics_doc, clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use serde_json::{Value, json};

use crate::leadership::leader_health::Health;
use crate::leadership::state::Role;
use crate::lease_state::TokenState;
use crate::pacing::pacer::Lane;
use crate::queue::snapshot::{About, LeaderView, Snapshot};
use crate::time::Moment;

/// Applies a merge patch (RFC 7396).
pub fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        return *target = patch.clone();
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

pub fn about() -> About {
    About {
        pod: None,
        admin_port: 9090,
        spacing: Duration::from_millis(5250),
        reserve: 0,
    }
}

/// A leader with these lanes: how many wait in each bucket.
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
        }),
        waiting: lanes.iter().sum(),
        buckets: lanes.len(),
        lanes: (0..).zip(lanes).map(lane).collect(),
    }
}

pub fn view(snapshot: &mut Snapshot) -> &mut LeaderView {
    snapshot.leader_view.as_mut().unwrap()
}
