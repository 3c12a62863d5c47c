//! The condition `Ready`: whether the queue grants, and if not, why, and what to do.

use gateway_queue_core::lease_state::{BlockedBy, Entry};

use super::Inputs;
use super::condition_value::ConditionValue;
use super::leaderless::leaderless;
use super::progress::Progress;
use super::text::{kubectl, last_error, period, place, reset};
use crate::api::{GatewayQueue, Reason, parse_duration};
use crate::observe::leader::Leader;

/// When a changed token takes effect. The kubelet does not watch an immutable Secret, and
/// pods keep its content even if it is deleted and created again.
const PICKED_UP: &str = "The queue picks it up within two minutes. If the Secret is immutable, \
                         create another one and set spec.tokenSecretRef to it.";

/// Whether the queue grants. `blocked` is what prevents pods of the current spec.
pub(super) fn ready(
    inputs: Inputs<'_>,
    blocked: Option<ConditionValue>,
    progress: &Progress,
    entry: Option<&Entry>,
) -> ConditionValue {
    if let Some(mut value) = blocked {
        value.message.push_str(&still_granting(inputs, entry));
        return value;
    }
    if !progress.can_grant {
        let value = progress.value.clone();
        let mut message = value.message.clone();
        // The message of a rollout says it already.
        if !value.is_true() {
            message.push_str(&still_granting(inputs, entry));
        }
        return ConditionValue::no(value.reason, message);
    }
    if let Some(value) = leaderless(inputs) {
        return value;
    }
    let Some(entry) = entry else {
        // This happens in each start, and is nothing to warn about.
        let message = format!(
            "Waiting for the leader's first status report. If this does not change, check {}.",
            kubectl("logs", inputs.owner)
        );
        return ConditionValue::no(Reason::RolloutInProgress, message);
    };
    let (reason, message) = match entry.blocked_by {
        Some(blocked_by) => grants_blocked(inputs, blocked_by, entry),
        None => {
            let message = granting(inputs.queue, entry) + &last_error(entry);
            return ConditionValue::yes(Reason::Granting, message);
        }
    };
    ConditionValue::no(reason, message)
}

/// That the queue grants nevertheless, if it does.
fn still_granting(inputs: Inputs<'_>, entry: Option<&Entry>) -> String {
    match (&inputs.observed.leader, entry) {
        (Leader::Pod { name }, Some(entry)) if entry.blocked_by.is_none() => {
            format!(" {name} still grants.")
        }
        _ => String::new(),
    }
}

/// Why nothing is granted, and what to do.
fn grants_blocked(inputs: Inputs<'_>, blocked_by: BlockedBy, entry: &Entry) -> (Reason, String) {
    let spec = &inputs.queue.spec;
    let token = spec.token_secret_ref.as_ref();
    match blocked_by {
        BlockedBy::TokenMissing => {
            let (secret, key) =
                token.map_or(("", ""), |token| (token.name.as_str(), token.key.as_str()));
            let namespace = &inputs.owner.namespace;
            let last_error = entry.last_error.as_ref();
            let last_error = last_error.map_or_else(String::new, |error| format!(" ({error})"));
            let message = format!(
                "Secret {secret} has no usable token under key {key}{last_error}. Create or correct \
                 it from a file: `kubectl -n {namespace} create secret generic {secret} \
                 --from-file={key}=FILE --dry-run=client -o yaml | kubectl -n {namespace} apply \
                 --server-side --force-conflicts -f -`. {PICKED_UP}"
            );
            (Reason::TokenMissing, message)
        }
        BlockedBy::TokenRejected => {
            let message = format!(
                "Discord rejects the token in {}. Put the bot's current token there. {PICKED_UP}",
                place(token)
            );
            (Reason::TokenRejected, message)
        }
        BlockedBy::SessionStartsUnknown => match &entry.last_error {
            Some(error) => {
                let error = period(error);
                // The path of the URL may contain a secret.
                let advice = match spec
                    .discord_api
                    .as_deref()
                    .and_then(|api| api.split('/').nth(2))
                {
                    Some(host) => {
                        format!("check spec.discordApi, and that its pods can reach {host}")
                    }
                    None => "check that its pods can reach discord.com".to_owned(),
                };
                let message = format!(
                    "Discord has not reported the session starts yet: {error} The queue retries; \
                     {advice}."
                );
                (Reason::DiscordUnreachable, message)
            }
            None => {
                let message = "Waiting for Discord to report the session starts.";
                (Reason::SessionStartsUnknown, message.to_owned())
            }
        },
        BlockedBy::SessionStartsExhausted => {
            let starts = entry.session_starts;
            let total = starts.map_or_else(String::new, |starts| format!(" of {}", starts.total));
            let reserve = match spec.session_reserve {
                0 => String::new(),
                reserve => format!(" above the reserve of {reserve}"),
            };
            let message = format!("No session start{total} is left{reserve}. {}", reset(entry));
            (Reason::SessionStartsExhausted, message)
        }
    }
}

fn granting(queue: &GatewayQueue, entry: &Entry) -> String {
    let shards = match entry.max_concurrency {
        None | Some(1) => "One shard".to_owned(),
        Some(buckets) => format!("Up to {buckets} shards, one of each bucket,"),
    };
    let spacing = parse_duration(&queue.spec.interval)
        .zip(parse_duration(&queue.spec.margin))
        .map_or_else(String::new, |(interval, margin)| {
            format!(" every {:?}", interval + margin)
        });
    format!("{shards} may identify{spacing}.")
}
