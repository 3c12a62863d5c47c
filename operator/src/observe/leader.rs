//! Which pod leads a queue, according to its Lease. Pure: time is an argument.

use std::time::Instant;

use crate::api::{ConditionType, GatewayQueueStatus, Reason};
use crate::observe::lease::ObservedLease;
use crate::observe::lease_observer::Seen;

/// The leader of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leader {
    /// This pod leads, or did until a moment ago.
    Pod {
        /// Its name.
        name: String,
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
    lease: Option<&ObservedLease>,
    seen: Option<Seen>,
    before: Option<&GatewayQueueStatus>,
    now: Instant,
) -> Leader {
    let Seen { since, changed } = seen.unwrap_or(Seen {
        since: now,
        changed: false,
    });
    let Some(lease) = lease else {
        return Leader::None;
    };
    let is_in_time = now < lease.leaderless_at(since);
    let Some(holder) = lease.holder() else {
        let last = before.and_then(|status| status.leader.clone());
        return match last {
            Some(name) if changed && is_in_time => Leader::Pod { name },
            _ => Leader::None,
        };
    };
    // The name of a pod, and a suffix for each of its starts.
    let name = holder.rsplit_once('_').map_or(holder, |(pod, _)| pod);
    let name = name.to_owned();
    // An operator that has just started does not treat a Lease as alive that the status
    // reports as expired.
    if is_in_time && (changed || !was_lost(before)) {
        Leader::Pod { name }
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

    fn lease(spec: Value) -> ObservedLease {
        serde_json::from_value(json!({"metadata": {"name": "my-bot"}, "spec": spec})).unwrap()
    }

    fn held() -> ObservedLease {
        lease(json!({"holderIdentity": "my-bot-7d9f_x1", "leaseDurationSeconds": 15}))
    }

    fn seen(since: Instant, changed: bool) -> Option<Seen> {
        Some(Seen { since, changed })
    }

    fn pod(name: &str) -> Leader {
        Leader::Pod {
            name: name.to_owned(),
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
        assert_eq!(at(0), pod("my-bot-7d9f"));
        assert_eq!(at(16), pod("my-bot-7d9f"));
        assert_eq!(at(17), lost());
        // First observed now.
        let found = leader(Some(&lease), None, None, start);
        assert_eq!(found, pod("my-bot-7d9f"));
    }

    #[test]
    fn no_lease_is_valid_for_longer_than_the_maximum() {
        let start = Instant::now();
        for duration in [json!(1_000_000), json!(-1), Value::Null] {
            let spec = json!({"holderIdentity": "p", "leaseDurationSeconds": duration});
            let lease = lease(spec);
            let at = |seconds| {
                let seen = seen(start, true);
                leader(Some(&lease), seen, None, after(start, seconds))
            };
            assert_eq!(at(31), pod("p"));
            assert_ne!(at(32), pod("p"));
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
        assert_eq!(of(true), pod("my-bot-7d9f"));
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
        assert_eq!(at(Some(&reported), true, 1), pod("my-bot-7d9f"));
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
