//! Which pod leads a queue, according to its Lease. Pure: time is an argument.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;

use crate::api::{ConditionType, GatewayQueueStatus, Reason};
use crate::observe::lease_observer::Seen;

/// The longest time without a renewal, whatever the Lease says.
const MAX_LEASE: Duration = Duration::from_secs(30);

/// The time that a follower needs to acquire a free Lease. To report a queue without a leader
/// earlier would be out of date when it is read.
const HANDOVER: Duration = Duration::from_secs(2);

/// The leader of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leader {
    /// This pod leads, or did until a moment ago.
    Pod {
        /// Its name.
        name: String,
        /// When to recheck, if the Lease does not change before.
        until: Instant,
    },
    /// This pod has not renewed the Lease in time.
    Lost {
        /// Its name.
        name: String,
    },
    /// The Lease is free or does not exist.
    None,
}

/// Returns the leader at `now`, by a Lease that was last observed to change at `seen`, or that
/// was first observed now. `before` is the existing status.
pub fn leader(
    lease: Option<&Lease>,
    seen: Option<Seen>,
    before: Option<&GatewayQueueStatus>,
    now: Instant,
) -> Leader {
    let Seen { since, changed } = seen.unwrap_or(Seen {
        since: now,
        changed: false,
    });
    let spec = lease.and_then(|lease| lease.spec.as_ref());
    let holder = spec
        .and_then(|spec| spec.holder_identity.as_deref())
        .filter(|holder| !holder.is_empty());
    let Some(holder) = holder else {
        let last = before.and_then(|status| status.leader.clone());
        let until = since + HANDOVER;
        return match last {
            Some(name) if lease.is_some() && changed && now < until => Leader::Pod { name, until },
            _ => Leader::None,
        };
    };
    // The name of a pod, and a suffix for each of its starts.
    let name = holder.rsplit_once('_').map_or(holder, |(pod, _)| pod);
    let name = name.to_owned();
    let duration = spec
        .and_then(|spec| spec.lease_duration_seconds)
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(MAX_LEASE, Duration::from_secs)
        .min(MAX_LEASE);
    let until = since + duration + HANDOVER;
    // An operator that has just started does not treat a Lease as alive that the status
    // reports as expired.
    if now < until && (changed || !was_lost(before)) {
        Leader::Pod { name, until }
    } else {
        Leader::Lost { name }
    }
}

fn was_lost(before: Option<&GatewayQueueStatus>) -> bool {
    let ready = before.and_then(|status| status.condition(ConditionType::Ready));
    ready.is_some_and(|ready| ready.reason == Reason::NoLeader.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::after;

    fn lease(spec: Value) -> Lease {
        serde_json::from_value(json!({"metadata": {"name": "my-bot"}, "spec": spec})).unwrap()
    }

    fn held() -> Lease {
        lease(json!({"holderIdentity": "my-bot-7d9f_x1", "leaseDurationSeconds": 15}))
    }

    fn seen(since: Instant, changed: bool) -> Option<Seen> {
        Some(Seen { since, changed })
    }

    fn pod(name: &str, until: Instant) -> Leader {
        Leader::Pod {
            name: name.to_owned(),
            until,
        }
    }

    fn lost() -> Leader {
        Leader::Lost {
            name: "my-bot-7d9f".to_owned(),
        }
    }

    #[test]
    fn the_holder_leads_until_the_lease_expires_and_another_pod_could_have_it() {
        let (start, lease) = (Instant::now(), held());
        let at = |seconds| {
            let seen = seen(start, true);
            leader(Some(&lease), seen, None, after(start, seconds))
        };
        assert_eq!(at(0), pod("my-bot-7d9f", after(start, 17)));
        assert_eq!(at(16), pod("my-bot-7d9f", after(start, 17)));
        assert_eq!(at(17), lost());
        // First observed now.
        let found = leader(Some(&lease), None, None, start);
        assert_eq!(found, pod("my-bot-7d9f", after(start, 17)));
    }

    #[test]
    fn no_lease_is_valid_for_longer_than_the_maximum() {
        let start = Instant::now();
        for duration in [json!(1_000_000), json!(-1), Value::Null] {
            let spec = json!({"holderIdentity": "p", "leaseDurationSeconds": duration});
            let leader = leader(Some(&lease(spec)), seen(start, true), None, start);
            assert_eq!(leader, pod("p", after(start, 32)));
        }
    }

    #[test]
    fn an_operator_that_starts_keeps_a_reported_loss_of_the_leader() {
        let start = Instant::now();
        let reported: GatewayQueueStatus = serde_json::from_value(json!({"conditions": [{
            "type": "Ready", "status": "False", "reason": "NoLeader", "message": "",
            "lastTransitionTime": "2026-11-23T12:00:00Z",
        }]}))
        .unwrap();
        let lease = held();
        let of = |changed| leader(Some(&lease), seen(start, changed), Some(&reported), start);
        assert_eq!(of(false), lost());
        assert_eq!(of(true), pod("my-bot-7d9f", after(start, 17)));
    }

    /// A status that reports a leader.
    fn led() -> GatewayQueueStatus {
        GatewayQueueStatus {
            leader: Some("my-bot-7d9f".to_owned()),
            ..GatewayQueueStatus::default()
        }
    }

    #[test]
    fn a_lease_that_was_just_released_still_has_its_leader_for_a_moment() {
        let start = Instant::now();
        let reported = led();
        let free = lease(json!({"holderIdentity": ""}));
        let at = |before, changed, seconds| {
            let seen = seen(start, changed);
            leader(Some(&free), seen, before, after(start, seconds))
        };
        assert_eq!(
            at(Some(&reported), true, 1),
            pod("my-bot-7d9f", after(start, 2))
        );
        assert_eq!(at(Some(&reported), true, 2), Leader::None);
        // It may have been free for a long time.
        assert_eq!(at(Some(&reported), false, 1), Leader::None);
        assert_eq!(at(None, true, 1), Leader::None);
    }

    #[test]
    fn without_a_lease_there_is_no_leader() {
        let start = Instant::now();
        let reported = led();
        let none = leader(None, seen(start, true), Some(&reported), start);
        assert_eq!(none, Leader::None);
        let blank = lease(Value::Null);
        assert_eq!(leader(Some(&blank), None, None, start), Leader::None);
    }
}
