//! The observed Lease of an election, and what to do with it. Pure: time is an argument.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;

/// The longest duration of a Lease, whatever it says.
pub(super) const MAX_LEASE: Duration = Duration::from_secs(60);

/// What to do with a Lease.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Create,
    Acquire,
    Renew,
    Wait { holder: String, until: Instant },
}

/// The observed Lease.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) lease: Option<Lease>,
    /// When it was last observed to change.
    since: Option<Instant>,
}

impl Seen {
    pub(super) fn note(&mut self, lease: Option<Lease>, now: Instant) {
        let spec = |lease: &Option<Lease>| lease.as_ref().map(|lease| lease.spec.clone());
        if spec(&self.lease) != spec(&lease) || self.since.is_none() {
            self.since = Some(now);
        }
        self.lease = lease;
    }

    pub(super) fn step(&self, identity: &str, now: Instant) -> Step {
        let Some(lease) = &self.lease else {
            return Step::Create;
        };
        let spec = lease.spec.as_ref();
        let holder = spec.and_then(|spec| spec.holder_identity.as_deref());
        match holder {
            None | Some("") => Step::Acquire,
            Some(holder) if holder == identity => Step::Renew,
            Some(holder) => {
                let held = spec
                    .and_then(|spec| spec.lease_duration_seconds)
                    .and_then(|seconds| u64::try_from(seconds).ok())
                    .map_or(MAX_LEASE, Duration::from_secs)
                    .min(MAX_LEASE);
                let until = self.since.unwrap_or(now) + held;
                let holder = holder.to_owned();
                match now < until {
                    true => Step::Wait { holder, until },
                    false => Step::Acquire,
                }
            }
        }
    }
}
