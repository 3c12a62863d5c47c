//! The Lease of a queue, as far as the operator reads it. Time is an argument.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use serde::Deserialize;

use crate::observe::compact_metadata::CompactMetadata;
use crate::observe::of_kind::of_kind;

/// The longest time without a renewal, whatever the Lease says.
const MAX_LEASE: Duration = Duration::from_secs(30);

/// The time that a follower needs to acquire a free Lease. To report a queue without a leader
/// earlier would be out of date when it is read.
pub const HANDOVER: Duration = Duration::from_secs(2);

/// The Lease of a queue.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ObservedLease {
    /// Its metadata.
    #[serde(default)]
    pub metadata: CompactMetadata,
    /// Its spec.
    #[serde(default)]
    pub spec: Option<LeaseSpec>,
}

impl ObservedLease {
    /// Returns the identity of the holder, if it has one.
    pub fn holder(&self) -> Option<&str> {
        let holder = self.spec.as_ref()?.holder_identity.as_deref();
        holder.filter(|holder| !holder.is_empty())
    }

    /// Returns when the queue has no leader, if the Lease was last acquired, renewed or released
    /// at `since`: another pod could have acquired it by then.
    pub fn leaderless_at(&self, since: Instant) -> Instant {
        if self.holder().is_none() {
            return since + HANDOVER;
        }
        let spec = self.spec.as_ref();
        let duration = spec
            .and_then(|spec| spec.lease_duration_seconds)
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(MAX_LEASE, Duration::from_secs)
            .min(MAX_LEASE);
        since + duration + HANDOVER
    }
}

of_kind!(ObservedLease, Lease, metadata.identity);
