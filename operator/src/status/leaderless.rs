//! What is said of a queue whose pods are well, but none of them leads.

use super::{NO_LEADER, Verdict, look};
use crate::desired::Owner;
use crate::observe::leader::Leader;

/// What is said while nobody leads.
pub(super) fn leaderless(owner: &Owner, leader: &Leader) -> Option<Verdict> {
    let Owner { name, .. } = owner;
    let look = look("logs --prefix", owner);
    let message = match leader {
        Leader::Pod { .. } => return None,
        Leader::Lost { name: pod } => format!(
            "The leader {pod} has not renewed the Lease {name} in time, so no shard is granted its \
             turn. Another pod takes over as soon as there is one that reaches the API server. If \
             it stays so, see `{look}`"
        ),
        Leader::Nobody => format!(
            "No pod has taken the Lease {name} yet, so no shard is granted its turn. A Lease that \
             does not say that its leader has stopped is left alone for 30s. If it stays free for \
             longer, see `{look}`"
        ),
    };
    Some(Verdict::not(NO_LEADER, message))
}
