//! A queue of two pods, with clients who wait on both.

use super::clients::{Crowd, Turns};
use super::queue::{Pod, Queue};
use crate::kubectl::Namespace;

/// How many buckets it has.
const BUCKETS: u32 = 4;

pub(crate) struct Pair<'a> {
    pub(crate) queue: Queue<'a>,
    pub(crate) leader: Pod,
    pub(crate) other: Pod,
    pub(crate) crowd: Crowd,
}

impl<'a> Pair<'a> {
    /// Nobody waits yet.
    pub(crate) fn start(namespace: &'a Namespace) -> Self {
        let queue = Queue::plain(namespace, 2, BUCKETS);
        Self {
            leader: queue.leader(),
            other: queue.others().swap_remove(0),
            crowd: Crowd::new(BUCKETS, queue.service()),
            queue,
        }
    }

    /// Two of each bucket wait on each pod, and a first turn was granted in each.
    pub(crate) fn with_clients_on_both(namespace: &'a Namespace) -> Self {
        let pair = Self::start(namespace);
        for shard in 0..8 {
            let crowd = &pair.crowd;
            crowd.ask(shard, &pair.leader.place("leader"), Turns::Many);
            crowd.ask(shard + 8, &pair.other.place("other"), Turns::Many);
        }
        pair.crowd.granted(4);
        pair
    }
}
