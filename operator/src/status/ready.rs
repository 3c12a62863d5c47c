//! The condition that sums up all others: whether shards are granted their
//! turns, and if not, why, and what to do about it.

use gateway_queue_core::lease_state::{BlockedBy, Entry};

use super::leaderless::leaderless;
use super::progress::Progress;
use super::{Evidence, State, Verdict, look};
use crate::api::{GatewayQueue, parse_duration};
use crate::desired::Owner;
use crate::observe::leader::Leader;

/// What happens to a changed token. The kubelet watches no Secret that is immutable, and
/// pods keep what it once held, also when it is deleted and created again.
const PICKED_UP: &str = "The queue picks it up within two minutes, without a restart. A Secret \
                         that is immutable is never picked up: create one of another name, and \
                         set it in spec.tokenSecretRef";

/// `blocked` is why there are no pods, if there shall be none.
pub(super) fn ready(
    queue: &GatewayQueue,
    owner: &Owner,
    evidence: Evidence<'_>,
    blocked: Option<Verdict>,
    progress: &Progress,
    entry: Option<&Entry>,
) -> Verdict {
    if let Some(mut verdict) = blocked {
        verdict.message.push_str(&meanwhile(evidence, entry));
        return verdict;
    }
    if !progress.can_grant {
        let Verdict {
            state,
            reason,
            mut message,
        } = progress.verdict.clone();
        // Of a rollout that goes on it is said already.
        if state != State::True {
            message.push_str(&meanwhile(evidence, entry));
        }
        return Verdict::not(reason, message);
    }
    if let Some(verdict) = leaderless(owner, evidence.leader) {
        return verdict;
    }
    let Some(entry) = entry else {
        // A moment of each start, and nothing to warn of.
        let logs = look("logs", owner);
        return Verdict::not(
            "RolloutInProgress",
            format!("The leader is about to tell how it is. If it stays so, see `{logs}`"),
        );
    };
    match entry.blocked_by {
        Some(blocked_by) => held(queue, owner, blocked_by, entry),
        None => Verdict::holds("Granting", granting(queue, entry) + &last_error(entry)),
    }
}

/// That turns are granted all the same, if they are: the first that a person wants to
/// know of something that is wrong.
fn meanwhile(evidence: Evidence<'_>, entry: Option<&Entry>) -> String {
    match (evidence.leader, entry) {
        (Leader::Pod { name, .. }, Some(entry)) if entry.blocked_by.is_none() => {
            format!(". Shards are granted their turns meanwhile, by {name}")
        }
        _ => String::new(),
    }
}

/// Why nothing is granted, and what to do about it.
fn held(queue: &GatewayQueue, owner: &Owner, blocked_by: BlockedBy, entry: &Entry) -> Verdict {
    let (secret, key) = match &queue.spec.token_secret_ref {
        Some(token) => (token.name.as_str(), token.key.as_str()),
        None => ("(none)", "(none)"),
    };
    match blocked_by {
        BlockedBy::TokenMissing => Verdict::not(
            "TokenMissing",
            format!(
                "Secret {secret} does not exist, has no key {key}, or holds no token there. Put the \
                 token of a file into it with `kubectl -n {namespace} create secret generic {secret} \
                 --from-file={key}=FILE --dry-run=client -o yaml | kubectl -n {namespace} apply -f -`. \
                 {PICKED_UP}{}",
                entry
                    .detail
                    .as_ref()
                    .map_or_else(String::new, |detail| format!(" (it says: {detail})")),
                namespace = owner.namespace
            ),
        ),
        BlockedBy::TokenRejected => Verdict::not(
            "TokenRejected",
            format!(
                "Discord rejects the token in Secret {secret}, key {key}: put the bot's present \
                 token there. {PICKED_UP}"
            ),
        ),
        BlockedBy::SessionStartsUnknown => match &entry.detail {
            Some(detail) => Verdict::not(
                "DiscordUnreachable",
                format!(
                    "Discord has not told yet how many session starts are left: {detail}. The \
                     queue asks again by itself; see that its pods reach {}",
                    queue.spec.discord_api.as_deref().unwrap_or("discord.com")
                ),
            ),
            None => Verdict::not(
                "SessionStartsUnknown",
                "Discord is being asked how many session starts are left",
            ),
        },
        BlockedBy::SessionStartsExhausted => Verdict::not("SessionStartsExhausted", {
            let reserve = match queue.spec.session_reserve {
                0 => String::new(),
                reserve => format!(" above the reserve of {reserve}"),
            };
            let starts = entry.session_starts;
            let of = starts.map_or_else(String::new, |s| format!(" of {}", s.total));
            let until = starts.and_then(|s| s.reset_time).map_or_else(
                || "when Discord opens the next window".to_owned(),
                |reset| format!("at {reset}, when Discord opens the next window"),
            );
            format!("No session start{of} is left{reserve}. Shards are granted again {until}")
        }),
    }
}

/// What is known is granted, also when Discord cannot be asked for more.
fn last_error(entry: &Entry) -> String {
    entry.detail.as_ref().map_or_else(String::new, |detail| {
        format!(". Discord could not be asked again: {detail}")
    })
}

fn granting(queue: &GatewayQueue, entry: &Entry) -> String {
    let buckets = match entry.max_concurrency {
        None | Some(1) => "one shard".to_owned(),
        Some(buckets) => format!("{buckets} shards, one of each bucket,"),
    };
    let spacing = parse_duration(&queue.spec.interval)
        .zip(parse_duration(&queue.spec.margin))
        .map_or_else(String::new, |(interval, margin)| {
            format!(" every {:?}", interval + margin)
        });
    format!("Up to {buckets} may identify{spacing}")
}
