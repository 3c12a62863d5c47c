//! The PodDisruptionBudget, which prevents a drain of several nodes from evicting all pods of a
//! queue at once.

use serde_json::{Value, json};

use super::Owner;

/// One pod at a time, so that each handover ends before the next begins, and a drain is never
/// blocked, whatever the number of pods.
pub(super) fn disruption_budget(owner: &Owner) -> Value {
    json!({"spec": {
        "maxUnavailable": 1,
        "selector": {"matchLabels": owner.selector()},
        // A pod that does not work must not block a drain.
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }})
}
