//! The state of the queue at one moment, for people.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;

use crate::gateway_bot::Limits;
use crate::leadership::leader_health::Health;
use crate::leadership::state::Role;
use crate::lease_state::{BlockedBy, TokenState};
use crate::pacing::pacer::Lane;
use crate::pacing::pacer::breaker::CrashLooping;
use crate::pacing::shard_history::ShardState;
use crate::time::Moment;

/// The maximum number of buckets in a short snapshot; there may be thousands.
pub const BRIEF_BUCKETS: usize = 48;
/// The maximum number of shards of each bucket in a short snapshot, and in each of its lists of
/// shards.
pub const BRIEF_SHARDS: usize = 24;

/// What does not change while the process runs, for people.
#[derive(Clone, Debug)]
pub struct About {
    /// The pod in which this process runs, if any.
    pub pod: Option<Pod>,
    /// The port that serves the state.
    pub admin_port: u16,
    /// The minimum time between two grants of one bucket.
    pub spacing: Duration,
    /// The number of session starts that are not granted.
    pub reserve: u64,
    /// The queue whose agent this process is, as `host:port`.
    pub upstream: Option<String>,
}

/// The name of a pod of this queue.
#[derive(Clone, Debug)]
pub struct Pod {
    /// The namespace of the pod.
    pub namespace: String,
    /// The name of the pod.
    pub name: String,
}

/// The state of the queue at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// When the snapshot was taken.
    pub taken: Moment,
    /// The role of this process in the election.
    pub role: Role,
    /// The address for forwarded requests of a leader in another pod.
    pub leader: Option<SocketAddr>,
    /// The pod of a leader in another pod.
    pub leader_pod: Option<String>,
    /// Whether the leader in another pod, or the upstream, did not answer the last request.
    pub leader_silent: bool,
    /// Whether the leader in another pod can be reached.
    pub leader_health: Health,
    /// The state of the token. On a pod that may not grant, it does not include Discord's
    /// response, which only a leader knows.
    pub token: TokenState,
    /// The last error of the token or, on a leader, of a fetch.
    pub last_error: Option<String>,
    /// The number of waiting clients that are connected to this process, whether they wait here
    /// or at the leader.
    pub held_requests: u64,
    /// What only a leader knows; none on a pod that may not grant, because another pod may be
    /// the leader.
    pub leader_view: Option<LeaderView>,
    /// The number of requests that wait in all buckets, including those not in `lanes`, but not
    /// those of a shard that is held.
    pub waiting: usize,
    /// The number of buckets, including those not in `lanes`.
    pub buckets: usize,
    /// The buckets; in a short snapshot, not all of them.
    pub lanes: Vec<Lane>,
}

/// What only a leader knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderView {
    /// Why nothing is granted; none if something may be.
    pub blocked_by: Option<BlockedBy>,
    /// When the limits are fetched next.
    pub fetch_at: Option<Moment>,
    /// The number of buckets; none while it is unknown.
    pub max_concurrency: Option<u32>,
    /// The last limits from Discord.
    pub limits: Option<Limits>,
    /// The session starts that are left, including the reserve.
    pub remaining: Option<u64>,
    /// When Discord resets the limit; none if no window is open.
    pub reset_time: Option<Timestamp>,
    /// The last grants of this term, oldest first.
    pub granted: Vec<Granted>,
    /// The number of crash-looping shards, including those not in `crash_looping`.
    pub crash_looping_count: usize,
    /// The shards that are held because they were granted too often, or were a moment ago, in
    /// ascending order.
    pub crash_looping: Vec<CrashLooping>,
    /// What is known of each shard in this term, in ascending order.
    pub shards: Vec<ShardState>,
}

impl LeaderView {
    /// Returns the milliseconds until the reset if it is `wall` on the wall clock; none if no window
    /// is open.
    pub(crate) fn reset_in_ms(&self, wall: Timestamp) -> Option<u64> {
        let left = self.reset_time?.as_millisecond() - wall.as_millisecond();
        Some(u64::try_from(left).unwrap_or(0))
    }
}

/// The level of detail of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// The number of waiting requests of each bucket.
    Numbers,
    /// Also all shards. This takes time if there are many.
    Shards,
    /// Also the first [`BRIEF_SHARDS`] waiting shards of each bucket, as many crash-looping ones, and
    /// as many of all, of which those that are ready are left out first.
    Brief,
}

impl Detail {
    /// Returns the maximum number of shards of each bucket, and in each list of shards.
    pub(crate) fn max_shards(self) -> usize {
        match self {
            Self::Numbers => 0,
            Self::Shards => usize::MAX,
            Self::Brief => BRIEF_SHARDS,
        }
    }
}

/// A grant that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The shard that was granted.
    pub shard: u32,
    /// The bucket of the shard.
    pub bucket: u32,
    /// When the grant was written.
    pub at: Moment,
}

impl Snapshot {
    /// Reduces the snapshot to [`BRIEF_BUCKETS`] buckets with the most waiting requests, and
    /// [`BRIEF_SHARDS`] shards of each. Buckets with waiting requests come first.
    pub fn shorten(&mut self) {
        if self.lanes.len() > BRIEF_BUCKETS {
            self.lanes
                .sort_by_key(|lane| (Reverse(lane.waiting), lane.bucket));
            self.lanes.truncate(BRIEF_BUCKETS);
        }
        self.lanes
            .sort_by_key(|lane| (lane.waiting == 0, lane.bucket));
        for lane in &mut self.lanes {
            lane.shards.truncate(BRIEF_SHARDS);
        }
    }

    /// Returns whether anything but the time has changed since `before`.
    pub fn has_changed_since(&self, before: &Self) -> bool {
        let taken = before.taken;
        Self {
            taken,
            ..self.clone()
        } != *before
    }
}
