//! What the leader told of the token and the session starts, as conditions.

use gateway_queue_logbook::{Entry, Hold, Token};

use super::blocked::token_shared;
use super::{Outcome, State, Verdict};
use crate::api::GatewayQueue;
use crate::desired::Owner;

/// Nobody leads: what was known is old.
fn unknown() -> Verdict {
    let message = "Only a pod that leads knows, and none does: see the condition Ready";
    Verdict::of(State::Unknown, "NoLeader", message)
}

/// Whether Discord takes the token.
pub(super) fn token_accepted(
    queue: &GatewayQueue,
    owner: &Owner,
    outcome: &Outcome,
    entry: Option<&Entry>,
) -> Verdict {
    let Some(token) = &queue.spec.token_secret_ref else {
        let message = "The queue has no token, and asks Discord nothing";
        return Verdict::holds("NoToken", message);
    };
    if let Outcome::TokenShared(holder) = outcome {
        return token_shared(queue, owner, holder);
    }
    let place = format!("Secret {}, key {}", token.name, token.key);
    let Some(entry) = entry else {
        return unknown();
    };
    match entry.token {
        Token::Accepted => Verdict::holds("Accepted", format!("Discord accepts it ({place})")),
        Token::Rejected => Verdict::not(
            "TokenRejected",
            format!("Discord answered 401: put the bot's present token into {place}"),
        ),
        Token::Missing => Verdict::not("TokenMissing", format!("There is no token in {place}")),
        // A pod of the spec before may lead for a moment yet.
        Token::Unchecked | Token::None => Verdict::of(
            State::Unknown,
            "Unchecked",
            format!("Discord has not said anything about it yet ({place})"),
        ),
    }
}

/// Whether there are session starts to grant.
pub(super) fn session_starts_available(queue: &GatewayQueue, entry: Option<&Entry>) -> Verdict {
    if queue.spec.token_secret_ref.is_none() {
        let message = "The queue has no token, and counts no session starts";
        return Verdict::holds("NoToken", message);
    }
    let Some(entry) = entry else {
        return unknown();
    };
    // It grants what it knows to be there, also when Discord cannot be asked.
    let trouble = entry.detail.as_ref().map_or_else(String::new, |detail| {
        format!(". Discord could not be asked again: {detail}")
    });
    match (entry.hold, entry.session_starts) {
        (Some(Hold::SessionStartsExhausted), starts) => {
            let until = starts.and_then(|s| s.reset_time).map_or_else(
                || "when Discord opens the next window".to_owned(),
                |reset| format!("at {reset}"),
            );
            let message = format!("All that may be used are used up. There are more {until}");
            Verdict::not("SessionStartsExhausted", message + &trouble)
        }
        (None, Some(_)) => Verdict::holds(
            "Available",
            format!("How many are left is in status.sessionStarts{trouble}"),
        ),
        _ => Verdict::of(
            State::Unknown,
            "SessionStartsUnknown",
            format!("Discord has not told how many are left{trouble}"),
        ),
    }
}
