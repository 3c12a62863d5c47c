//! The events that the operator records.

use k8s_openapi::api::core::v1::ObjectReference;

use crate::api::{ConditionType, GatewayQueueStatus, Reason};
use crate::desired::{Kind, Owner};

/// The number of fields that an event names.
const MAX_FIELDS: usize = 5;

/// An event of a GatewayQueue.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRecord {
    /// Whether it is a warning.
    pub is_warning: bool,
    /// Its reason.
    pub reason: Reason,
    /// What happened, and what to do.
    pub message: String,
    /// The child that it is about, if any. Events with the same reason are counted as one
    /// unless they are about different children.
    pub child: Option<ObjectReference>,
}

/// A condition whose fault is one event, and whose end is another.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The condition.
    pub condition: ConditionType,
    /// Its status during the fault.
    faulty: &'static str,
    /// The reason of the event when the fault begins.
    begins: Reason,
    /// The reason of the event when it ends.
    ends: Reason,
}

impl Fault {
    /// All faults.
    pub const ALL: [Self; 2] = [
        Self {
            condition: ConditionType::LeaderReachable,
            faulty: "False",
            begins: Reason::LeaderUnreachable,
            ends: Reason::LeaderReachable,
        },
        Self {
            condition: ConditionType::Degraded,
            faulty: "True",
            begins: Reason::InvalidSessions,
            ends: Reason::Healthy,
        },
    ];
}

impl EventRecord {
    /// Returns the event of a change of the status or reason of `Ready`.
    pub fn ready(before: Option<&GatewayQueueStatus>, after: &GatewayQueueStatus) -> Option<Self> {
        let new = after.condition(ConditionType::Ready)?;
        let old = before.and_then(|before| before.condition(ConditionType::Ready));
        if old.is_some_and(|old| (&old.status, &old.reason) == (&new.status, &new.reason)) {
            return None;
        }
        let reason = Reason::parse(&new.reason)?;
        Some(Self {
            is_warning: !reason.is_normal(),
            reason,
            message: new.message.clone(),
            child: None,
        })
    }

    /// Returns the event of a fault that begins or ends.
    pub fn fault(
        fault: Fault,
        before: Option<&GatewayQueueStatus>,
        after: &GatewayQueueStatus,
    ) -> Option<Self> {
        let new = after.condition(fault.condition)?;
        let old = before.and_then(|before| before.condition(fault.condition));
        let was_faulty = old.is_some_and(|old| old.status == fault.faulty);
        let is_faulty = new.status == fault.faulty;
        // While the state is unknown, a fault neither begins nor ends.
        if is_faulty == was_faulty || new.status == "Unknown" {
            return None;
        }
        Some(Self {
            is_warning: is_faulty,
            reason: if is_faulty { fault.begins } else { fault.ends },
            message: new.message.clone(),
            child: None,
        })
    }

    /// Returns the event of a child that was reverted for the `count`th time in a row; none
    /// after the third.
    pub fn reverted(kind: Kind, owner: &Owner, count: u32) -> Option<Self> {
        let (kind_name, name) = (kind.as_str(), kind.name_for(owner));
        let message = match count {
            0..=2 => format!(
                "Reverted an external change to {kind_name} {name}. Make the change in the \
                 GatewayQueue spec instead."
            ),
            3 => format!(
                "Another client keeps changing {kind_name} {name}; the operator reverts it less \
                 and less often, down to once in 5 min. Find the client with `kubectl -n {} get \
                 {} {name} --show-managed-fields -o yaml`.",
                owner.namespace,
                kind_name.to_lowercase()
            ),
            _ => return None,
        };
        Some(Self::about(kind, owner, Reason::ChildReverted, message))
    }

    /// Returns the event of a child of which admission changes these fields.
    pub fn rewritten(kind: Kind, owner: &Owner, mut fields: Vec<&str>) -> Self {
        fields.dedup();
        let more = match fields.len().saturating_sub(MAX_FIELDS) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        fields.truncate(MAX_FIELDS);
        let message = format!(
            "An admission policy or webhook changes what the operator applies to {} {}: {}{more}. \
             The operator accepts that. Exclude the object from the policy, or remove the fields \
             from the GatewayQueue spec.",
            kind.as_str(),
            kind.name_for(owner),
            fields.join(", ")
        );
        Self::about(kind, owner, Reason::ChildRewritten, message)
    }

    fn about(kind: Kind, owner: &Owner, reason: Reason, message: String) -> Self {
        let resource = kind.resource();
        Self {
            is_warning: true,
            reason,
            message,
            child: Some(ObjectReference {
                api_version: Some(resource.api_version),
                kind: Some(resource.kind),
                name: Some(kind.name_for(owner)),
                namespace: Some(owner.namespace.clone()),
                ..ObjectReference::default()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(type_: &str, status: &str, reason: &str, message: &str) -> GatewayQueueStatus {
        let condition = json!({
            "type": type_, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-11-23T12:00:00Z",
        });
        serde_json::from_value(json!({ "conditions": [condition] })).unwrap()
    }

    #[test]
    fn a_changed_reason_is_an_event_and_a_changed_message_is_not() {
        let missing = status("Ready", "False", "TokenMissing", "no Secret");
        let event = EventRecord::ready(None, &missing).unwrap();
        assert!(event.is_warning);
        assert_eq!(event.reason, Reason::TokenMissing);
        assert_eq!(event.message, "no Secret");
        assert_eq!(EventRecord::ready(Some(&missing), &missing), None);
        let other = status("Ready", "False", "TokenMissing", "no key");
        assert_eq!(EventRecord::ready(Some(&missing), &other), None);
        let granting = status("Ready", "True", "Granting", "");
        let rollout = status("Ready", "False", "RolloutInProgress", "");
        for (before, after) in [(&other, &granting), (&granting, &rollout)] {
            let event = EventRecord::ready(Some(before), after).unwrap();
            assert!(!event.is_warning);
        }
    }

    #[test]
    fn a_fault_is_one_event_and_so_is_its_end() {
        let [unreachable, degraded] = Fault::ALL;
        let reachable = (Reason::LeaderUnreachable, Reason::LeaderReachable);
        let healthy = (Reason::InvalidSessions, Reason::Healthy);
        for (fault, bad, good, (begins, ends)) in [
            (unreachable, "False", "True", reachable),
            (degraded, "True", "False", healthy),
        ] {
            let [bad, good, unknown] = [bad, good, "Unknown"]
                .map(|state| status(fault.condition.as_str(), state, "Reason", "a sentence"));
            for before in [None, Some(&good), Some(&unknown)] {
                let event = EventRecord::fault(fault, before, &bad).unwrap();
                assert_eq!((event.is_warning, event.reason), (true, begins));
                assert_eq!(event.message, "a sentence");
            }
            let event = EventRecord::fault(fault, Some(&bad), &good).unwrap();
            assert_eq!((event.is_warning, event.reason), (false, ends));
            for (before, after) in [
                (Some(&bad), &bad),
                (Some(&bad), &unknown),
                (Some(&unknown), &good),
                (Some(&good), &good),
                (None, &good),
            ] {
                assert_eq!(EventRecord::fault(fault, before, after), None);
            }
        }
    }
}
