//! What the caches contain about one GatewayQueue.

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;

use crate::api::GatewayQueueStatus;
use crate::desired::Owner;
use crate::observe::caches::Caches;
use crate::observe::leader::{Leader, leader};

/// What the status of a GatewayQueue depends on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The Deployment.
    pub deployment: Option<Arc<Deployment>>,
    /// Its pods.
    pub pods: Vec<Arc<Pod>>,
    /// The Lease.
    pub lease: Option<Arc<Lease>>,
    /// The leader of the queue.
    pub leader: Leader,
}

impl Observed {
    /// Reads the caches. `before` is the existing status.
    pub fn of(
        caches: &Caches,
        owner: &Owner,
        before: Option<&GatewayQueueStatus>,
        now: Instant,
    ) -> Self {
        let lease = caches.lease(owner);
        let seen = caches.lease_observer.of(owner);
        Self {
            deployment: caches.deployment(owner),
            pods: caches.pods(owner),
            leader: leader(lease.as_deref(), seen, before, now),
            lease,
        }
    }
}
