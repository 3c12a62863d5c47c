//! When each Lease was last observed to change, by the operator's own clock, because the clocks
//! of nodes may differ. Time is an argument.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::LeaseSpec;
use kube::ResourceExt as _;

use crate::desired::{Kind, Owner};
use crate::lock;
use crate::observe::lease::ObservedLease;

/// A leader that was not observed for this long no longer grants, whatever happened to its Lease
/// and its GatewayQueue.
const MAX_GRANTING: Duration = Duration::from_secs(60);

/// The observed Leases.
#[derive(Debug, Default)]
pub struct LeaseObserver {
    leases: Mutex<HashMap<Key, Observation>>,
}

/// Namespace and name.
pub type Key = (String, String);

#[derive(Debug)]
struct Observation {
    /// The Lease when it was last observed.
    lease: ObservedLease,
    seen: Seen,
    /// When it has no leader, unless it changes before; none if that is known.
    leaderless_at: Option<Instant>,
    /// Whether it was deleted and not created again.
    deleted: bool,
}

/// When a Lease was observed to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Since when it was not acquired, renewed or released.
    pub since: Instant,
    /// Whether such a change was observed. If not, it may be older than the first observation.
    pub changed: bool,
}

impl LeaseObserver {
    /// Records a Lease that a watch returned. Returns false if it was only renewed, and in time,
    /// and not for the first time: other renewals end a reported loss of the leader.
    pub fn saw(&self, lease: &ObservedLease, now: Instant) -> bool {
        let key = key_of(lease);
        let mut all = lock(&self.leases);
        let Some(before) = all.get_mut(&key) else {
            all.retain(|_, observation| !observation.deleted || observation.is_recent(now));
            let observation = Observation {
                lease: lease.clone(),
                seen: Seen {
                    since: now,
                    changed: false,
                },
                // A free one may have been free for a long time.
                leaderless_at: lease.holder().map(|_| lease.leaderless_at(now)),
                deleted: false,
            };
            all.insert(key, observation);
            return true;
        };
        before.deleted = false;
        let may_be_lost = !before.seen.changed || before.has_expired(now);
        let is_change = may_be_lost || !is_renewal(&before.lease, lease);
        if before.lease.spec != lease.spec || before.lease.uid() != lease.uid() {
            before.seen = Seen {
                since: now,
                changed: true,
            };
            before.leaderless_at = Some(lease.leaderless_at(now));
        }
        before.lease = lease.clone();
        is_change
    }

    /// Records that a Lease was deleted.
    pub fn lost(&self, lease: &ObservedLease) {
        if let Some(observation) = lock(&self.leases).get_mut(&key_of(lease)) {
            observation.deleted = true;
        }
    }

    /// Returns when the Lease of a GatewayQueue was last observed to change.
    pub fn of(&self, owner: &Owner) -> Option<Seen> {
        lock(&self.leases)
            .get(&key(owner))
            .map(|observation| observation.seen)
    }

    /// Returns the Leases that have no leader since the last call, because they were not renewed or
    /// acquired in time, and when to call this again.
    pub fn take_expired(&self, now: Instant) -> (Vec<Key>, Option<Instant>) {
        let mut all = lock(&self.leases);
        let (mut expired, mut next) = (Vec::new(), None);
        for (key, observation) in all
            .iter_mut()
            .filter(|(_, observation)| !observation.deleted)
        {
            let Some(at) = observation.leaderless_at else {
                continue;
            };
            if at <= now {
                observation.leaderless_at = None;
                expired.push(key.clone());
            } else {
                next = next.into_iter().chain([at]).min();
            }
        }
        (expired, next)
    }

    /// Whether a Lease of this name was held recently. Its leader may have granted until now, even
    /// for a GatewayQueue that was deleted and created again.
    pub fn led_lately(&self, owner: &Owner, now: Instant) -> bool {
        let all = lock(&self.leases);
        all.get(&key(owner))
            .is_some_and(|observation| observation.was_led() && observation.is_recent(now))
    }
}

impl Observation {
    /// A released Lease still has the time at which its leader acquired it.
    fn was_led(&self) -> bool {
        let spec = self.lease.spec.as_ref();
        spec.is_some_and(|spec| spec.holder_identity.is_some() || spec.acquire_time.is_some())
    }

    fn has_expired(&self, now: Instant) -> bool {
        let spec = self.lease.spec.as_ref();
        let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
        let duration = seconds.and_then(|seconds| u64::try_from(seconds).ok());
        duration.is_some_and(|seconds| {
            now.saturating_duration_since(self.seen.since) >= Duration::from_secs(seconds)
        })
    }

    fn is_recent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.seen.since) < MAX_GRANTING
    }
}

fn key(owner: &Owner) -> Key {
    (owner.namespace.clone(), owner.name.clone())
}

fn key_of(lease: &ObservedLease) -> Key {
    let name = lease.name_any();
    let queue = Kind::Lease.queue_of(&name).to_owned();
    (lease.namespace().unwrap_or_default(), queue)
}

/// Whether a Lease differs from `before` only in the fields that each renewal changes.
fn is_renewal(before: &ObservedLease, lease: &ObservedLease) -> bool {
    let lasting = |lease: &ObservedLease| {
        let spec = lease.spec.clone();
        spec.map(|spec| LeaseSpec {
            renew_time: None,
            ..spec
        })
    };
    !lease.metadata.differs(&before.metadata) && lasting(lease) == lasting(before)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{after, owner};

    fn lease(version: u32, spec: &Value) -> ObservedLease {
        annotated(version, spec, &json!({}))
    }

    fn annotated(version: u32, spec: &Value, annotations: &Value) -> ObservedLease {
        serde_json::from_value(json!({
            "metadata": {
                "name": "my-bot-queue", "namespace": "shop", "uid": "0042",
                "resourceVersion": version.to_string(), "annotations": annotations,
                "managedFields": [{
                    "manager": "gateway-queue", "operation": "Update",
                    "time": format!("2026-11-23T12:00:{version:02}Z"),
                }],
            },
            "spec": spec,
        }))
        .unwrap()
    }

    fn held(version: u32) -> ObservedLease {
        let renewed = format!("2026-11-23T12:00:{version:02}.000000Z");
        lease(
            version,
            &json!({"holderIdentity": "my-bot-7d9f_1", "renewTime": renewed}),
        )
    }

    fn seen(since: Instant, changed: bool) -> Option<Seen> {
        Some(Seen { since, changed })
    }

    #[test]
    fn a_renewal_is_recorded_and_only_the_first_is_a_change() {
        let (lease_observer, start) = (LeaseObserver::default(), Instant::now());
        assert!(lease_observer.saw(&held(1), start));
        assert_eq!(lease_observer.of(&owner()), seen(start, false));
        assert!(lease_observer.saw(&held(2), after(start, 1)), "the first");
        assert!(!lease_observer.saw(&held(3), after(start, 5)));
        let renewed = seen(after(start, 5), true);
        assert_eq!(lease_observer.of(&owner()), renewed);
        // A restarted watch returns the same again.
        assert!(!lease_observer.saw(&held(3), after(start, 9)));
        assert_eq!(lease_observer.of(&owner()), renewed);
    }

    #[test]
    fn any_other_change_is_a_change_and_not_a_renewal() {
        let (lease_observer, start) = (LeaseObserver::default(), Instant::now());
        lease_observer.saw(&held(1), start);
        let spec = json!(held(1).spec);
        let hash = json!({"gatewayqueue.dev/token-ref-hash": "none"});
        let reported = annotated(2, &spec, &hash);
        assert!(lease_observer.saw(&reported, after(start, 5)));
        assert_eq!(lease_observer.of(&owner()), seen(start, false));
    }

    #[test]
    fn a_release_and_another_lease_are_changes() {
        let (lease_observer, start) = (LeaseObserver::default(), Instant::now());
        lease_observer.saw(&held(1), start);
        let free = lease(2, &json!({"holderIdentity": ""}));
        assert!(lease_observer.saw(&free, after(start, 1)));
        let mut another = lease(3, &json!({"holderIdentity": ""}));
        another.metadata.identity.uid = Some("0043".to_owned());
        assert!(lease_observer.saw(&another, after(start, 2)));
        assert_eq!(lease_observer.of(&owner()), seen(after(start, 2), true));
    }

    #[test]
    fn a_lease_expires_once_after_its_last_renewal_and_a_handover_after_its_release() {
        let (lease_observer, start) = (LeaseObserver::default(), Instant::now());
        let expired = |seconds| {
            let (expired, next) = lease_observer.take_expired(after(start, seconds));
            (expired.len(), next)
        };
        let spec = |holder: &str, version: u32| {
            json!({"holderIdentity": holder, "leaseDurationSeconds": 15,
                "leaseTransitions": version})
        };
        let saw = |holder: &str, version| {
            let now = after(start, u64::from(version));
            lease_observer.saw(&lease(version, &spec(holder, version)), now)
        };
        // It may have been free for long.
        saw("", 0);
        assert_eq!(expired(0), (0, None));
        saw("my-bot-1", 1);
        saw("my-bot-1", 6);
        assert_eq!(expired(22), (0, Some(after(start, 23))));
        assert_eq!(expired(23), (1, None));
        assert_eq!(expired(24), (0, None));
        saw("my-bot-2", 30);
        saw("", 31);
        assert_eq!(expired(32), (0, Some(after(start, 33))));
        assert_eq!(expired(33), (1, None));
        // The deletion of a Lease is an event of its own.
        saw("my-bot-2", 40);
        lease_observer.lost(&lease(40, &spec("my-bot-2", 40)));
        assert_eq!(expired(60), (0, None));
    }

    #[test]
    fn a_leader_is_remembered_for_a_minute_after_its_lease_was_deleted() {
        let (lease_observer, start) = (LeaseObserver::default(), Instant::now());
        let lately = |seconds| lease_observer.led_lately(&owner(), after(start, seconds));
        assert!(!lately(0));
        lease_observer.saw(&held(1), start);
        lease_observer.lost(&held(1));
        let another = |name: &str, seconds| {
            let mut another = held(1);
            another.metadata.identity.name = Some(name.to_owned());
            lease_observer.saw(&another, after(start, seconds));
        };
        another("a", 30);
        assert_eq!([lately(30), lately(59), lately(60)], [true, true, false]);
        assert_ne!(lease_observer.of(&owner()), None);
        another("b", 61);
        assert_eq!(lease_observer.of(&owner()), None);
    }

    #[test]
    fn a_lease_that_was_never_acquired_had_no_leader() {
        let (lease_observer, start) = (LeaseObserver::default(), Instant::now());
        lease_observer.saw(&lease(1, &json!({})), start);
        assert!(!lease_observer.led_lately(&owner(), start));
        let released = json!({"holderIdentity": "", "acquireTime": "2026-11-23T12:00:00.000000Z"});
        lease_observer.saw(&lease(2, &released), start);
        assert!(lease_observer.led_lately(&owner(), start));
    }
}
