//! Interprets what `check` observed, and suggests what to do. Pure.

use std::time::Duration;

use gateway_queue_core::gateway_bot::Limits;
use gateway_queue_core::leadership::lease_object::LeaseObject;
use gateway_queue_core::pacing::discord_retry::Outcome;
use jiff::{SignedDuration, Timestamp};
use url::Url;

use super::duration::human;
use super::remote_state::RemoteState;
use super::report::Subject::{
    Dns, Http, Leader, SessionStarts, Settings, Tcp, Tls, Token, TokenAccepted,
};
use super::report::{Finding, Subject};
use crate::config::{Invalid, TokenSource};
use crate::discord::token_source::Current;

/// The stages of a request to Discord, in order.
const STAGES: [Subject; 4] = [Dns, Tcp, Tls, Http];

/// What to check if no pod is the leader.
const CHECK_PODS: &str = "check whether the queue's pods run, and their logs";

/// The settings that were read, or the first invalid one.
pub(crate) fn settings(invalid: Option<&Invalid>) -> Finding {
    match invalid {
        None => Finding::ok(Settings, "valid"),
        Some(invalid) => Finding::failed(
            Settings,
            invalid.to_string(),
            "correct it: the server would not start",
        ),
    }
}

/// The token as it was read from its source.
pub(crate) fn token(source: &TokenSource, current: &Current) -> Finding {
    match (current, source) {
        (Current::None, _) => Finding::skipped(
            Token,
            "none is configured: session starts are not counted, and MAX_CONCURRENCY is the number of buckets",
        ),
        (Current::Missing(cause), _) => Finding::failed(
            Token,
            cause,
            "write the bot's token there; in Kubernetes, create the Secret that the GatewayQueue names",
        ),
        (Current::Token(_), TokenSource::File(_)) => {
            Finding::ok(Token, "read from DISCORD_TOKEN_FILE")
        }
        (Current::Token(_), _) => Finding::ok(Token, "read from DISCORD_TOKEN"),
    }
}

/// The findings about the token and Discord in an agent.
pub(crate) fn of_agent() -> Vec<Finding> {
    let skipped = |subject| Finding::skipped(subject, "UPSTREAM is set: its queue has the token");
    let rest = STAGES.into_iter().chain([TokenAccepted, SessionStarts]);
    std::iter::once(Token).chain(rest).map(skipped).collect()
}

/// The findings about Discord without a token.
pub(crate) fn without_token() -> Vec<Finding> {
    let subjects = STAGES.into_iter().chain([TokenAccepted, SessionStarts]);
    let skipped = |subject| Finding::skipped(subject, "no token to send");
    subjects.map(skipped).collect()
}

/// The findings about the request to Discord: its result, or the stage at which it failed and the
/// cause. `proxy` is the host and port of the proxy through which it was sent, if any.
pub(crate) fn discord(
    api: &Url,
    proxy: Option<&str>,
    result: &Result<Outcome, (Subject, String)>,
    reserve: u64,
    now: Timestamp,
) -> Vec<Finding> {
    match result {
        Ok(outcome) => {
            let connected = STAGES.iter().filter(|stage| **stage != Http);
            let mut findings: Vec<_> = connected.map(|stage| passed(api, proxy, *stage)).collect();
            findings.extend(response(outcome, reserve, now));
            findings
        }
        Err((failed, cause)) => {
            let mut has_failed = false;
            let stages = STAGES.map(|stage| {
                if stage == *failed {
                    has_failed = true;
                    Finding::failed(stage, cause, remedy(stage))
                } else if has_failed {
                    Finding::skipped(stage, "not reached")
                } else {
                    passed(api, proxy, stage)
                }
            });
            let unknown = |subject| Finding::skipped(subject, "Discord was not reached");
            let rest = [TokenAccepted, SessionStarts].map(unknown);
            stages.into_iter().chain(rest).collect()
        }
    }
}

fn passed(api: &Url, proxy: Option<&str>, stage: Subject) -> Finding {
    let host = api.host_str().unwrap_or_default();
    let port = api.port_or_known_default().unwrap_or_default();
    match (stage, proxy) {
        (Dns, Some(proxy)) => Finding::skipped(stage, format!("left to the proxy {proxy}")),
        (Tcp, Some(proxy)) => {
            let message = format!("the proxy {proxy} connects to {host} on port {port}");
            Finding::ok(stage, message)
        }
        (Dns, None) if api.domain().is_none() => {
            Finding::skipped(stage, format!("{host} is an address"))
        }
        (Dns, None) => Finding::ok(stage, format!("{host} has an address")),
        (Tls, _) if api.scheme() == "http" => {
            Finding::skipped(stage, "DISCORD_API begins with http://")
        }
        (Tls, _) => Finding::ok(stage, format!("{host} has a trusted certificate")),
        _ => Finding::ok(stage, format!("{host} accepts connections on port {port}")),
    }
}

fn remedy(stage: Subject) -> &'static str {
    match stage {
        Dns => "check the DNS of this machine or cluster, and DISCORD_API",
        Tcp => "check NetworkPolicies, firewalls and proxies, and DISCORD_API",
        Tls => {
            "check the clock; if a proxy presents its own certificate, set DISCORD_CA_FILE (in a GatewayQueue: spec.discordCaRef)"
        }
        _ => "check the proxies in between, and discordstatus.com",
    }
}

fn response(outcome: &Outcome, reserve: u64, now: Timestamp) -> [Finding; 3] {
    let responds = || Finding::ok(Http, "Discord responds");
    let unknown = |subject| Finding::skipped(subject, "unknown");
    let unusable = |cause: String, remedy: &str| {
        [
            Finding::failed(Http, cause, remedy),
            unknown(TokenAccepted),
            unknown(SessionStarts),
        ]
    };
    match outcome {
        Outcome::Limits(limits) => [
            responds(),
            Finding::ok(TokenAccepted, "Discord accepts the token"),
            session_starts(limits, reserve, now),
        ],
        Outcome::Rejected => [
            responds(),
            Finding::failed(
                TokenAccepted,
                "Discord rejects the token (401)",
                "create a new one in the Developer Portal (Bot, Reset Token), and put it where the token is read",
            ),
            unknown(SessionStarts),
        ],
        Outcome::RateLimited(after) => unusable(
            format!("Discord answered 429: retry in {}", human(*after)),
            "find the program that sends so many requests; the queue waits that long",
        ),
        Outcome::Invalid(cause) | Outcome::Unreachable(cause) => {
            unusable(cause.clone(), "check DISCORD_API, and discordstatus.com")
        }
    }
}

fn session_starts(limits: &Limits, reserve: u64, now: Timestamp) -> Finding {
    let Limits {
        total,
        remaining,
        reset_after,
        ..
    } = limits;
    let mut text = format!("{remaining} of {total} left");
    if reserve > 0 {
        text += &format!(", {reserve} of them in reserve (SESSION_RESERVE)");
    }
    if !reset_after.is_zero() {
        text += &format!(", reset in {}", human(*reset_after));
        let after = SignedDuration::try_from(*reset_after).ok();
        if let Some(at) = after.and_then(|after| now.checked_add(after).ok()) {
            text += &format!(" ({at:.0})");
        }
    }
    if *remaining > reserve {
        Finding::ok(SessionStarts, text)
    } else {
        let remedy = "nothing is granted until the reset: find the shards that identify repeatedly";
        Finding::failed(SessionStarts, text, remedy)
    }
}

/// The holder of the Lease `name`.
pub(crate) fn lease(name: &str, record: &LeaseObject, usual: Duration, now: Timestamp) -> Finding {
    let Some(holder) = &record.lease.holder else {
        let text = format!("no pod holds the Lease {name}");
        return Finding::failed(Leader, text, CHECK_PODS);
    };
    // A holder is a pod and a number.
    let pod = holder
        .rsplit_once('_')
        .map_or(holder.as_str(), |(pod, _)| pod);
    let renewed = record.renewed.map(|at| now.duration_since(at));
    // The clocks of two machines are compared, so the tolerance is generous.
    let tolerated = record.lease.duration.unwrap_or(usual) * 2;
    match renewed.and_then(|ago| Duration::try_from(ago).ok()) {
        Some(ago) if ago > tolerated => {
            let ago = human(ago);
            let text = format!("{pod} holds the Lease {name}, but has not renewed it for {ago}");
            Finding::failed(Leader, text, CHECK_PODS)
        }
        _ => Finding::ok(Leader, format!("{pod} holds the Lease {name}")),
    }
}

/// The finding if the Lease `name` cannot be read.
pub(crate) fn unreadable_lease(name: &str, cause: &str) -> Finding {
    Finding::failed(
        Leader,
        format!("cannot read the Lease {name}: {cause}"),
        "check LEASE_NAME and LEASE_NAMESPACE, the queue's Role, and the connection to the API server",
    )
}

/// The leader, as reported by the queue at `url`, or why that does not respond.
pub(crate) fn queue(url: &str, fetched: Result<&RemoteState, &str>) -> Finding {
    let state = match fetched {
        Ok(state) => state,
        Err(cause) => {
            let text = format!("LEASE_NAME is not set, and no queue responds at {url}: {cause}");
            return Finding::skipped(Leader, text);
        }
    };
    match (state.role.as_str(), &state.message) {
        ("leader", None) => Finding::ok(Leader, format!("the queue at {url} is the leader")),
        ("leader", Some(message)) => {
            let text = format!("the queue at {url} is the leader, but grants nothing. {message}");
            Finding::ok(Leader, text)
        }
        ("follower", None) => {
            let pod = state.leader_pod.as_deref().unwrap_or("another pod");
            Finding::ok(Leader, format!("{pod} is the leader"))
        }
        ("agent", None) => {
            let upstream = state.upstream.as_deref().unwrap_or("a queue");
            let text = format!("the process at {url} forwards requests to {upstream}");
            Finding::ok(Leader, text)
        }
        (role, message) => Finding {
            message: message.clone().unwrap_or_else(|| role.to_owned()),
            ..Finding::failed(Leader, "", "")
        },
    }
}

#[cfg(test)]
mod tests;
