//! A queue of two pods, with clients on both.

use super::clients::{Clients, Grants};
use super::queue::{Pod, Queue};
use crate::kubectl::Namespace;

const BUCKETS: u32 = 4;

pub(crate) struct Pair<'a> {
    pub(crate) queue: Queue<'a>,
    pub(crate) leader: Pod,
    pub(crate) other: Pod,
    pub(crate) clients: Clients,
}

impl<'a> Pair<'a> {
    /// Starts the queue, without clients.
    pub(crate) fn start(namespace: &'a Namespace) -> Self {
        let queue = Queue::without_token(namespace, 2, BUCKETS);
        Self {
            leader: queue.leader(),
            other: queue.others().swap_remove(0),
            clients: Clients::new(BUCKETS, queue.service()),
            queue,
        }
    }

    /// Starts the queue and two clients of each bucket on each pod, and waits for the first
    /// grants.
    pub(crate) fn with_clients_on_both(namespace: &'a Namespace) -> Self {
        let pair = Self::start(namespace);
        for shard in 0..8 {
            let clients = &pair.clients;
            clients.start(shard, &pair.leader.target("leader"), Grants::Many);
            clients.start(shard + 8, &pair.other.target("other"), Grants::Many);
        }
        pair.clients.wait_for_grants(4);
        pair
    }
}
