//! The condition `Ready` of a queue whose pods run, but which has no leader.

use super::Inputs;
use super::condition_value::ConditionValue;
use super::text::kubectl;
use crate::api::Reason;
use crate::desired::Kind;
use crate::observe::leader::Leader;

/// Returns the value if the queue has no leader.
pub(super) fn leaderless(inputs: Inputs<'_>) -> Option<ConditionValue> {
    let name = Kind::Lease.name_for(inputs.owner);
    let logs = kubectl("logs --prefix", inputs.owner);
    let message = match &inputs.observed.leader {
        Leader::Pod { .. } => return None,
        Leader::Lost { name: pod } => format!(
            "No shard is granted, because the leader {pod} has not renewed the Lease {name} in \
             time. Another pod takes over when it can reach the API server; if none does, check \
             {logs}."
        ),
        Leader::None => format!(
            "No shard is granted, because no pod has acquired the Lease {name} yet. A Lease that \
             was not released is waited out for 30 s; if it takes longer, check {logs}."
        ),
    };
    Some(ConditionValue::no(Reason::NoLeader, message))
}
