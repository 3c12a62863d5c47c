//! The conditions about the token, the session starts and the sessions of the shards, as the
//! leader publishes them.

use gateway_queue_core::lease_state::{BlockedBy, Entry, TokenState};

use super::Inputs;
use super::condition_value::ConditionValue;
use super::spec_blocked::token_shared;
use super::text::{last_error, place, reset, shards};
use crate::api::Reason;
use crate::apply::Outcome;
use crate::observe::leader::Leader;

/// The value while nothing is published: there is no leader, or it has not written yet, for
/// which the reason is `silent`.
fn unpublished(inputs: Inputs<'_>, silent: Reason) -> ConditionValue {
    let (reason, message) = match (inputs.outcome, &inputs.observed.leader) {
        (Outcome::TokenShared(_), _) => (
            Reason::TokenShared,
            "Unknown: this queue has no pods. See the condition Ready.".to_owned(),
        ),
        (_, Leader::Pod { name }) => (
            silent,
            format!("Waiting for the first status report of the leader {name}."),
        ),
        (_, Leader::Lost { .. } | Leader::None) => (
            Reason::NoLeader,
            "Unknown: the queue has no leader. See the condition Ready.".to_owned(),
        ),
    };
    ConditionValue::unknown(reason, message)
}

/// Whether Discord accepts the token.
pub(super) fn token_accepted(inputs: Inputs<'_>, entry: Option<&Entry>) -> ConditionValue {
    let Some(token) = &inputs.queue.spec.token_secret_ref else {
        let message = "The queue has no token and does not call Discord.";
        return ConditionValue::yes(Reason::NoToken, message);
    };
    if let Outcome::TokenShared(holder) = inputs.outcome {
        return token_shared(inputs, holder);
    }
    let Some(entry) = entry else {
        return unpublished(inputs, Reason::Unchecked);
    };
    let place = place(Some(token));
    match entry.token {
        TokenState::Accepted => ConditionValue::yes(
            Reason::Accepted,
            format!("Discord accepts the token in {place}."),
        ),
        TokenState::Rejected => ConditionValue::no(
            Reason::TokenRejected,
            format!("Discord answered 401. Put the bot's current token into {place}."),
        ),
        TokenState::Missing => ConditionValue::no(
            Reason::TokenMissing,
            format!("{place} contains no token. See the condition Ready."),
        ),
        // A pod of the previous spec may lead for a moment.
        TokenState::Unchecked | TokenState::None => ConditionValue::unknown(
            Reason::Unchecked,
            format!("Discord has not checked the token in {place} yet."),
        ),
    }
}

/// Whether there are session starts to grant. The message also names the crash-looping shards,
/// which would use them up.
pub(super) fn session_starts_available(
    inputs: Inputs<'_>,
    entry: Option<&Entry>,
) -> ConditionValue {
    let mut value = session_starts(inputs, entry);
    let held = entry.map(|entry| &entry.crash_looping_shards[..]);
    if let Some(held) = held.filter(|held| !held.is_empty()) {
        value.message += &format!(
            " {} had 10 grants in 10 minutes, as in a crash loop, so further grants are delayed. \
             Check the log of the bot.",
            shards(held)
        );
    }
    value
}

fn session_starts(inputs: Inputs<'_>, entry: Option<&Entry>) -> ConditionValue {
    if inputs.queue.spec.token_secret_ref.is_none() {
        let message = "The queue has no token and does not count session starts.";
        return ConditionValue::yes(Reason::NoToken, message);
    }
    let Some(entry) = entry else {
        return unpublished(inputs, Reason::SessionStartsUnknown);
    };
    // The last error is about the token: no request was sent.
    if entry.token == TokenState::Missing {
        let message = "There is no token with which to ask Discord; see the condition Ready.";
        return ConditionValue::unknown(Reason::SessionStartsUnknown, message);
    }
    let last_error = last_error(entry);
    match (entry.blocked_by, entry.session_starts) {
        (Some(BlockedBy::SessionStartsExhausted), _) => ConditionValue::no(
            Reason::SessionStartsExhausted,
            format!("No session starts left. {}{last_error}", reset(entry)),
        ),
        (None, Some(_)) => ConditionValue::yes(
            Reason::Available,
            format!("status.sessionStarts has the numbers.{last_error}"),
        ),
        _ => ConditionValue::unknown(
            Reason::SessionStartsUnknown,
            format!("Discord has not reported how many session starts are left.{last_error}"),
        ),
    }
}

/// Whether shards have repeated invalid sessions.
pub(super) fn degraded(inputs: Inputs<'_>, entry: Option<&Entry>) -> ConditionValue {
    let Some(entry) = entry else {
        return unpublished(inputs, Reason::Unchecked);
    };
    if entry.invalid_session_shards.is_empty() {
        let message = "No shard has reported more than 3 invalid sessions in 10 minutes.";
        return ConditionValue::no(Reason::Healthy, message);
    }
    let message = format!(
        "{} had more than 3 invalid sessions in 10 minutes. Check that no other program identifies \
         with this token, and that shards identify immediately after their grant. If they connect \
         only after it, increase spec.margin, for example to 500ms.",
        shards(&entry.invalid_session_shards)
    );
    ConditionValue::yes(Reason::InvalidSessions, message)
}
