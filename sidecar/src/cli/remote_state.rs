//! The state of a queue, as its `/state` reports it.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

/// The fields of `/state` that the commands use. docs/queue.md describes them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct RemoteState {
    pub(crate) role: String,
    pub(crate) leader: Option<SocketAddr>,
    pub(crate) leader_pod: Option<String>,
    pub(crate) pod: Option<String>,
    pub(crate) admin_port: u16,
    pub(crate) version: String,
    pub(crate) token: String,
    pub(crate) last_error: Option<String>,
    /// Why nothing is granted; none while this pod or its leader grants.
    pub(crate) message: Option<String>,
    pub(crate) session_starts: Option<SessionStarts>,
    pub(crate) waiting: u64,
    pub(crate) held_requests: u64,
    pub(crate) bucket_count: u32,
    pub(crate) buckets: Vec<Bucket>,
    pub(crate) last_grants: Vec<LastGrant>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct SessionStarts {
    pub(crate) total: u64,
    pub(crate) remaining: u64,
    pub(crate) reset_time: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Bucket {
    pub(crate) bucket: u32,
    pub(crate) next_grant_in_ms: Option<u64>,
    pub(crate) shards: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct LastGrant {
    pub(crate) shard: u32,
    pub(crate) granted_ms_ago: u64,
}

impl RemoteState {
    /// Returns the address of the leader's admin port if this pod follows that leader: all
    /// pods of a queue have the same settings.
    pub(crate) fn leader_admin(&self) -> Option<SocketAddr> {
        let leader = self.leader.filter(|_| self.role == "follower")?;
        Some(SocketAddr::new(leader.ip(), self.admin_port))
    }

    /// Returns the time until the first grant of this term, if none has been given yet and
    /// every bucket has to wait, as during the start guard.
    pub(crate) fn first_grant_in(&self) -> Option<Duration> {
        let waits = self.buckets.iter().filter_map(|b| b.next_grant_in_ms);
        let first = waits.min().filter(|_| self.last_grants.is_empty());
        first.filter(|ms| *ms > 0).map(Duration::from_millis)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::RemoteState;

    /// The state of a leader, as `/state` reports it, with these fields changed.
    pub(crate) fn leader_with(changes: Value) -> RemoteState {
        let mut state = json!({
            "role": "leader", "leader": null, "leader_pod": null, "pod": null, "admin_port": 9090,
            "version": "0.2.0", "token": "accepted", "last_error": null, "message": null,
            "session_starts":
                {"total": 1000, "remaining": 993, "reset_time": "2026-11-25T02:00:00Z"},
            "waiting": 0, "held_requests": 0, "bucket_count": 1, "buckets": [], "last_grants": [],
        });
        for (name, value) in changes.as_object().unwrap() {
            state[name] = value.clone();
        }
        serde_json::from_value(state).unwrap()
    }
}
