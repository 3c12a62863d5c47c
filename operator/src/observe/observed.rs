//! What the caches contain about one GatewayQueue.

use std::sync::Arc;
use std::time::Instant;

use crate::api::GatewayQueueStatus;
use crate::desired::Owner;
use crate::observe::caches::Caches;
use crate::observe::deployment::ObservedDeployment;
use crate::observe::leader::{Leader, leader};
use crate::observe::lease::ObservedLease;
use crate::observe::pod::ObservedPod;

/// What the status of a GatewayQueue depends on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The Deployment.
    pub deployment: Option<Arc<ObservedDeployment>>,
    /// Its pods.
    pub pods: Vec<Arc<ObservedPod>>,
    /// The Lease.
    pub lease: Option<Arc<ObservedLease>>,
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
