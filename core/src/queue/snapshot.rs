//! The queue at one moment.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;

use crate::gateway_bot::Limits;
use crate::leadership::leader_health::Health;
use crate::leadership::state::Role;
use crate::lease_state::{BlockedBy, TokenState};
use crate::pacing::pacer::Lane;
use crate::time::Moment;

/// So many buckets, and so many shards of each, are enough to look at. There may
/// be thousands.
pub const BRIEF_BUCKETS: usize = 48;
/// See [`BRIEF_BUCKETS`].
pub const BRIEF_SHARDS: usize = 24;

/// What does not change while the process runs.
#[derive(Clone, Debug)]
pub struct About {
    /// The pod that this process runs in, if it is one.
    pub pod: Option<Pod>,
    /// The port that tells all this.
    pub admin_port: u16,
    /// Between two grants of one bucket.
    pub spacing: Duration,
    /// Session starts that are left untouched.
    pub reserve: u64,
}

/// A pod of this queue.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The queue at one moment, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names are those of the queue and its budget.
pub struct Snapshot {
    pub taken: Moment,
    pub role: Role,
    pub leader: Option<SocketAddr>,
    /// The pod of another leader.
    pub leader_pod: Option<String>,
    /// Another leader was asked in vain just now.
    pub leader_silent: bool,
    /// Whether another leader can be reached.
    pub leader_health: Health,
    /// On a pod that may not grant, what the pod itself sees of the token: only a
    /// leader knows what Discord says of it.
    pub token: TokenState,
    /// Likewise.
    pub last_error: Option<String>,
    /// Clients that this process holds, here or at the leader.
    pub held_requests: u64,
    /// What only a leader knows; none on a pod that may not grant, as another
    /// pod may be the leader.
    pub leader_view: Option<LeaderView>,
    /// Those in all buckets, and how many buckets there are: also when `lanes`
    /// are not all of them.
    pub waiting: usize,
    pub buckets: usize,
    pub lanes: Vec<Lane>,
}

/// What only a leader knows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // As above.
pub struct LeaderView {
    pub blocked_by: Option<BlockedBy>,
    pub fetch_at: Option<Moment>,
    pub max_concurrency: Option<u32>,
    pub limits: Option<Limits>,
    pub remaining: Option<u64>,
    pub reset_time: Option<Timestamp>,
    /// The last grants of this term, the oldest first.
    pub granted: Vec<Granted>,
}

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// How many wait in each bucket.
    Numbers,
    /// Also which shards. That takes a moment when many wait.
    Shards,
    /// Also the first shards of each.
    Brief,
}

impl Detail {
    /// How many shards of each bucket are told at most.
    pub(crate) fn most_shards(self) -> usize {
        match self {
            Self::Numbers => 0,
            Self::Shards => usize::MAX,
            Self::Brief => BRIEF_SHARDS,
        }
    }
}

/// A grant that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // As above.
pub struct Granted {
    pub shard: u32,
    pub bucket: u32,
    pub at: Moment,
}

impl Snapshot {
    /// Keeps what is enough to look at: the buckets in which most wait, those in
    /// which somebody does first, and the first shards of each.
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

    /// Whether there is anything new in it since `before`, but that time passed.
    pub fn has_changed_since(&self, before: &Self) -> bool {
        let taken = before.taken;
        Self {
            taken,
            ..self.clone()
        } != *before
    }
}
