//! What the leader told of the token and the session starts, as conditions.

use gateway_queue_core::lease_state::{BlockedBy, Entry, TokenState};

use super::blocked::token_shared;
use super::{Evidence, Outcome, State, Verdict};
use crate::api::GatewayQueue;
use crate::desired::Owner;
use crate::observe::leader::Leader;

/// Why it is not known whether Discord takes the token.
const UNCHECKED: &str = "Unchecked";

/// Why it is not known whether there are session starts.
const UNKNOWN: &str = "SessionStartsUnknown";

/// Why there is nothing to tell: nobody leads, and what was known is old, or the
/// leader has not written yet, which has the reason `silent`.
fn unknown(evidence: Evidence<'_>, silent: &'static str) -> Verdict {
    let (reason, message) = match (evidence.outcome, evidence.leader) {
        (Outcome::TokenShared(_), _) => (
            "TokenShared",
            "This queue stands down, and asks Discord nothing: see the condition Ready".to_owned(),
        ),
        (_, Leader::Pod { name, .. }) => (
            silent,
            format!("The pod {name} leads, and has not told yet what it knows"),
        ),
        (_, Leader::Lost { .. } | Leader::Nobody) => (
            "NoLeader",
            "Only a pod that leads knows, and none does: see the condition Ready".to_owned(),
        ),
    };
    Verdict::of(State::Unknown, reason, message)
}

/// Whether Discord takes the token.
pub(super) fn token_accepted(
    queue: &GatewayQueue,
    owner: &Owner,
    evidence: Evidence<'_>,
    entry: Option<&Entry>,
) -> Verdict {
    let Some(token) = &queue.spec.token_secret_ref else {
        let message = "The queue has no token, and asks Discord nothing";
        return Verdict::holds("NoToken", message);
    };
    if let Outcome::TokenShared(holder) = evidence.outcome {
        return token_shared(queue, owner, holder);
    }
    let place = format!("Secret {}, key {}", token.name, token.key);
    let Some(entry) = entry else {
        return unknown(evidence, UNCHECKED);
    };
    match entry.token {
        TokenState::Accepted => Verdict::holds("Accepted", format!("Discord accepts it ({place})")),
        TokenState::Rejected => Verdict::not(
            "TokenRejected",
            format!("Discord answered 401: put the bot's present token into {place}"),
        ),
        TokenState::Missing => {
            Verdict::not("TokenMissing", format!("There is no token in {place}"))
        }
        // A pod of the spec before may lead for a moment yet.
        TokenState::Unchecked | TokenState::None => Verdict::of(
            State::Unknown,
            UNCHECKED,
            format!("Discord has not said anything about it yet ({place})"),
        ),
    }
}

/// Whether there are session starts to grant.
pub(super) fn session_starts_available(
    queue: &GatewayQueue,
    evidence: Evidence<'_>,
    entry: Option<&Entry>,
) -> Verdict {
    if queue.spec.token_secret_ref.is_none() {
        let message = "The queue has no token, and counts no session starts";
        return Verdict::holds("NoToken", message);
    }
    let Some(entry) = entry else {
        return unknown(evidence, UNKNOWN);
    };
    // It grants what it knows to be there, also when Discord cannot be asked.
    let last_error = entry.detail.as_ref().map_or_else(String::new, |detail| {
        format!(". Discord could not be asked again: {detail}")
    });
    match (entry.blocked_by, entry.session_starts) {
        (Some(BlockedBy::SessionStartsExhausted), starts) => {
            let until = starts.and_then(|s| s.reset_time).map_or_else(
                || "when Discord opens the next window".to_owned(),
                |reset| format!("at {reset}"),
            );
            let message = format!("All that may be used are used up. There are more {until}");
            Verdict::not("SessionStartsExhausted", message + &last_error)
        }
        (None, Some(_)) => Verdict::holds(
            "Available",
            format!("How many are left is in status.sessionStarts{last_error}"),
        ),
        _ => Verdict::of(
            State::Unknown,
            UNKNOWN,
            format!("Discord has not told how many are left{last_error}"),
        ),
    }
}
