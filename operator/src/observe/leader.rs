//! Who leads a queue, as far as its Lease tells. Pure: when the Lease was last
//! seen to change, and the time, go in.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;

use crate::api::GatewayQueueStatus;
use crate::api::conditions::{NO_LEADER, READY};
use crate::observe::lease_observer::Seen;

/// No queue is led for longer without a renewal, whatever its Lease says.
const LONGEST: Duration = Duration::from_secs(30);

/// What a pod that stands by needs to take a Lease that has become free. To
/// speak of a queue without a leader meanwhile would be old when it is read.
const HANDOVER: Duration = Duration::from_secs(2);

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leader {
    /// This pod does, or did until a moment ago.
    Pod {
        /// Its name.
        name: String,
        /// When to look again, if nothing is seen to happen before.
        until: Instant,
    },
    /// This pod has not renewed the Lease in time.
    Lost {
        /// Its name.
        name: String,
    },
    /// The Lease is free, or there is none.
    Nobody,
}

/// Who leads at `now`, by a Lease that was last seen to change at `seen`; it was
/// seen just now when that is none. `before` is the status as it is.
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
            _ => Leader::Nobody,
        };
    };
    // The name of a pod, and what tells its starts apart.
    let name = holder.rsplit_once('_').map_or(holder, |(pod, _)| pod);
    let name = name.to_owned();
    let duration = spec
        .and_then(|spec| spec.lease_duration_seconds)
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(LONGEST, Duration::from_secs)
        .min(LONGEST);
    let until = since + duration + HANDOVER;
    // An operator that has just started takes no Lease for alive of which it
    // was known before that it is not.
    if now < until && (changed || !was_lost(before)) {
        Leader::Pod { name, until }
    } else {
        Leader::Lost { name }
    }
}

fn was_lost(before: Option<&GatewayQueueStatus>) -> bool {
    before
        .and_then(|status| status.conditions.as_deref())
        .into_iter()
        .flatten()
        .any(|c| c.type_ == READY && c.reason == NO_LEADER)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

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

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn who_holds_the_lease_leads_until_it_runs_out_and_another_could_have_it() {
        let (start, lease) = (Instant::now(), held());
        let at = |seconds| {
            let seen = seen(start, true);
            leader(Some(&lease), seen, None, after(start, seconds))
        };
        assert_eq!(at(0), pod("my-bot-7d9f", after(start, 17)));
        assert_eq!(at(16), pod("my-bot-7d9f", after(start, 17)));
        assert_eq!(at(17), lost());
        // Found a moment ago, or not even noted yet.
        let found = leader(Some(&lease), None, None, start);
        assert_eq!(found, pod("my-bot-7d9f", after(start, 17)));
    }

    #[test]
    fn no_lease_is_believed_for_longer_than_any_queue_leads() {
        let start = Instant::now();
        for duration in [json!(1_000_000), json!(-1), Value::Null] {
            let spec = json!({"holderIdentity": "p", "leaseDurationSeconds": duration});
            let leader = leader(Some(&lease(spec)), seen(start, true), None, start);
            assert_eq!(leader, pod("p", after(start, 32)));
        }
    }

    #[test]
    fn an_operator_that_starts_believes_what_was_told_before() {
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

    #[test]
    fn a_lease_that_was_just_released_is_on_its_way_to_the_next() {
        let start = Instant::now();
        let reported = GatewayQueueStatus {
            leader: Some("my-bot-7d9f".to_owned()),
            ..GatewayQueueStatus::default()
        };
        let free = lease(json!({"holderIdentity": ""}));
        let at = |before, changed, seconds| {
            let seen = seen(start, changed);
            leader(Some(&free), seen, before, after(start, seconds))
        };
        assert_eq!(
            at(Some(&reported), true, 1),
            pod("my-bot-7d9f", after(start, 2))
        );
        assert_eq!(at(Some(&reported), true, 2), Leader::Nobody);
        // It may have been free for long.
        assert_eq!(at(Some(&reported), false, 1), Leader::Nobody);
        assert_eq!(at(None, true, 1), Leader::Nobody);
    }

    #[test]
    fn without_a_lease_nobody_leads() {
        let start = Instant::now();
        let reported = GatewayQueueStatus {
            leader: Some("my-bot-7d9f".to_owned()),
            ..GatewayQueueStatus::default()
        };
        let none = leader(None, seen(start, true), Some(&reported), start);
        assert_eq!(none, Leader::Nobody);
        let blank = lease(Value::Null);
        assert_eq!(leader(Some(&blank), None, None, start), Leader::Nobody);
    }
}
