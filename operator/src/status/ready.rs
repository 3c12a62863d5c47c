//! The condition that sums up all others: whether shards are granted their
//! turns, and if not, why, and what to do about it.

use gateway_queue_logbook::{Entry, Hold};

use super::leaderless::leaderless;
use super::progress::Progress;
use super::{Evidence, Verdict};
use crate::api::{GatewayQueue, parse_duration};
use crate::desired::Owner;

/// `blocked` is why there are no pods, if there shall be none.
pub(super) fn ready(
    queue: &GatewayQueue,
    owner: &Owner,
    evidence: Evidence<'_>,
    blocked: Option<Verdict>,
    progress: &Progress,
    entry: Option<&Entry>,
) -> Verdict {
    if let Some(verdict) = blocked {
        return verdict;
    }
    if !progress.can_grant {
        let Verdict {
            reason, message, ..
        } = progress.verdict.clone();
        return Verdict::not(reason, message);
    }
    if let Some(verdict) = leaderless(owner, evidence.leader) {
        return verdict;
    }
    let Some(entry) = entry else {
        return Verdict::not(
            "NotReady",
            format!("The leader has not written to the Lease {} yet", owner.name),
        );
    };
    match entry.hold {
        Some(hold) => held(queue, owner, hold, entry),
        None => Verdict::holds("Granting", granting(queue, entry)),
    }
}

/// Why nothing is granted, and what to do about it.
fn held(queue: &GatewayQueue, owner: &Owner, hold: Hold, entry: &Entry) -> Verdict {
    let (secret, key) = match &queue.spec.token_secret_ref {
        Some(token) => (token.name.as_str(), token.key.as_str()),
        None => ("(none)", "(none)"),
    };
    match hold {
        Hold::TokenMissing => Verdict::not(
            "TokenMissing",
            format!(
                "Secret {secret} has no key {key}, does not exist, or holds no token there{}. \
                 Create it, such as with `kubectl -n {} create secret generic {secret} \
                 --from-file={key}=FILE`, or mend it. The queue takes it up by itself, within two \
                 minutes",
                entry
                    .detail
                    .as_ref()
                    .map_or_else(String::new, |detail| format!(" (the queue says: {detail})")),
                owner.namespace
            ),
        ),
        Hold::TokenRejected => Verdict::not(
            "TokenRejected",
            format!(
                "Discord rejects the token in Secret {secret}, key {key}: put the bot's present \
                 token there. The queue takes it up by itself, within two minutes"
            ),
        ),
        Hold::SessionStartsUnknown => match &entry.detail {
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
        Hold::SessionStartsExhausted => Verdict::not("SessionStartsExhausted", {
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
