//! The state of a queue, as its `/state` reports it.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

/// The fields of `/state` that the commands use.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs)] // docs/queue.md describes the fields.
pub struct RemoteState {
    pub role: String,
    pub leader: Option<SocketAddr>,
    pub leader_pod: Option<String>,
    pub pod: Option<String>,
    pub admin_port: u16,
    pub version: String,
    pub token: String,
    pub last_error: Option<String>,
    /// Why nothing is granted; none while this pod or its leader grants.
    pub message: Option<String>,
    pub session_starts: Option<SessionStarts>,
    pub waiting: u64,
    pub held_requests: u64,
    pub bucket_count: u32,
    pub buckets: Vec<Bucket>,
    pub last_grants: Vec<LastGrant>,
}

/// The session starts of a [`RemoteState`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs)]
pub struct SessionStarts {
    pub total: u64,
    pub remaining: u64,
    pub reset_time: Option<String>,
}

/// A bucket of a [`RemoteState`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs)]
pub struct Bucket {
    pub bucket: u32,
    pub next_grant_in_ms: Option<u64>,
    pub shards: Vec<u32>,
}

/// A grant of a [`RemoteState`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs)]
pub struct LastGrant {
    pub shard: u32,
    pub granted_ms_ago: u64,
}

impl RemoteState {
    /// Returns the address of the leader's admin port if this pod follows that leader: all
    /// pods of a queue have the same settings.
    pub fn leader_admin(&self) -> Option<SocketAddr> {
        let leader = self.leader.filter(|_| self.role == "follower")?;
        Some(SocketAddr::new(leader.ip(), self.admin_port))
    }

    /// Returns the time until the first grant of this term, if none has been given yet and
    /// every bucket has to wait, as during the start guard.
    pub fn first_grant_in(&self) -> Option<Duration> {
        let waits = self.buckets.iter().filter_map(|b| b.next_grant_in_ms);
        let first = waits.min().filter(|_| self.last_grants.is_empty());
        first.filter(|ms| *ms > 0).map(Duration::from_millis)
    }
}
