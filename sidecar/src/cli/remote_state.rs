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
    /// The queue whose agent this process is.
    pub(crate) upstream: Option<String>,
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
    // Older versions do not have the next two.
    #[serde(default)]
    pub(crate) crash_looping: Vec<CrashLooping>,
    #[serde(default)]
    pub(crate) shards: Vec<Shard>,
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

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct CrashLooping {
    pub(crate) shard: u32,
    pub(crate) released_in_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Shard {
    pub(crate) shard: u32,
    pub(crate) last_grant_ms_ago: Option<u64>,
    pub(crate) last_report: Option<String>,
    pub(crate) last_report_ms_ago: Option<u64>,
}

impl Shard {
    /// Returns what happened last, and how long ago, unless the shard is connected.
    fn not_ready(&self) -> Option<(&str, Duration)> {
        let granted = self.last_grant_ms_ago.map(|ago| ("granted", ago));
        let reported = self.last_report.as_deref().zip(self.last_report_ms_ago);
        // At the same time, the report is a response to the grant.
        let last = match (granted, reported) {
            (Some(granted), Some(reported)) if granted.1 < reported.1 => granted,
            (granted, reported) => reported.or(granted)?,
        };
        let (what, ago) = last;
        let is_ready = matches!(what, "ready" | "resumed");
        (!is_ready).then_some((what, Duration::from_millis(ago)))
    }
}

impl RemoteState {
    /// Returns the shards that are not connected, each with what happened last and how long ago;
    /// none if no client reports.
    pub(crate) fn not_ready(&self) -> Vec<(u32, &str, Duration)> {
        if self.shards.iter().all(|shard| shard.last_report.is_none()) {
            return Vec::new();
        }
        let not_ready = self.shards.iter().filter_map(|shard| {
            let (what, ago) = shard.not_ready()?;
            Some((shard.shard, what, ago))
        });
        not_ready.collect()
    }

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
