//! The log lines about leadership.

use gateway_queue_core::leadership::candidate::Event;
use tracing::{info, warn};

/// Logs an event of the candidate.
pub(crate) fn write(event: Event) {
    match event {
        Event::BecameLeader(holder) => info!(holder, "became the leader"),
        Event::LostLeadership(detail) => info!(detail, "no longer the leader"),
        Event::OtherBecameLeader(leader) => {
            info!(holder = leader.holder, leader = %leader.address, "another pod is the leader");
        }
        Event::FormerSelfIsLeader(holder) => {
            let detail = "this pod was the leader before its restart; that term has to expire";
            info!(holder, detail, "waiting for a former term");
        }
        Event::Expired => {
            let detail = "nothing is granted until the Lease can be renewed";
            warn!(detail, "lease expired");
        }
        Event::ExpiryEnded => info!("lease renewed or taken by another pod"),
        Event::HandoverDelayed => {
            let detail = "a grant is still being written";
            warn!(detail, "lease release delayed");
        }
        Event::Gone => {
            let detail = "the queue was deleted, so no pod becomes the leader after this one";
            info!(detail, "lease deleted");
        }
        Event::Ready => info!("lease read"),
        Event::Unreachable { request, error } => {
            warn!(
                error = error.to_string(),
                operation = request.as_str(),
                "lease request failed"
            );
        }
        Event::Reachable(request) => {
            info!(
                operation = request.as_str(),
                "lease request succeeded again"
            );
        }
        Event::Asked { .. } => {}
    }
}
