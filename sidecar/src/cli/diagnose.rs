//! What the things that `check` saw mean, and what to do about them. Pure.

use std::time::Duration;

use gateway_queue_core::gateway_bot::Limits;
use gateway_queue_core::leadership::lease_object::LeaseObject;
use gateway_queue_core::pacing::fetch_schedule::Outcome;
use jiff::{SignedDuration, Timestamp};
use url::Url;

use super::duration::words;
use super::remote_state::RemoteState;
use super::report::{Finding, Subject};
use crate::config::TokenSource;
use crate::discord::token_source::Current;

/// How far a question to Discord came.
#[derive(Clone, Debug, PartialEq)]
pub enum Reached {
    /// It failed there.
    Failed(Stage, String),
    /// Discord answered this.
    Answered(Outcome),
}

/// Where a request can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// No address for the name.
    Dns,
    /// No connection.
    Tcp,
    /// No encryption.
    Tls,
    /// No answer.
    Http,
}

const STAGES: [(Stage, Subject); 4] = [
    (Stage::Dns, Subject::Dns),
    (Stage::Tcp, Subject::Tcp),
    (Stage::Tls, Subject::Tls),
    (Stage::Http, Subject::Http),
];

/// What is known after nothing could be asked of Discord.
pub fn not_asked(why: &str) -> Vec<Finding> {
    let all = STAGES.iter().map(|(_, subject)| *subject);
    let all = all.chain([Subject::TokenAccepted, Subject::SessionStarts]);
    all.map(|subject| Finding::skipped(subject, why)).collect()
}

/// The token as it is at this moment.
pub fn token(source: &TokenSource, current: &Current) -> Finding {
    match (current, source) {
        (Current::None, _) => Finding::skipped(
            Subject::Token,
            "none is configured: session starts are not counted, and MAX_CONCURRENCY says how many buckets there are",
        ),
        (Current::Missing(why), _) => Finding::failed(
            Subject::Token,
            why,
            "put the bot's token there: in Kubernetes, into the Secret that the GatewayQueue names",
        ),
        (Current::Token(_), TokenSource::File(_)) => {
            Finding::ok(Subject::Token, "read from DISCORD_TOKEN_FILE")
        }
        (Current::Token(_), _) => Finding::ok(Subject::Token, "read from DISCORD_TOKEN"),
    }
}

/// What came of the one question to Discord.
pub fn discord(api: &Url, reached: &Reached, reserve: u64, now: Timestamp) -> Vec<Finding> {
    let failed = match reached {
        Reached::Failed(stage, why) => Some((*stage, why)),
        Reached::Answered(_) => None,
    };
    let mut findings: Vec<_> = STAGES
        .iter()
        .filter(|(stage, _)| *stage != Stage::Http || failed.is_some())
        .map(|(stage, subject)| match failed {
            Some((at, why)) if at == *stage => Finding::failed(*subject, why, remedy(at)),
            Some((at, _)) if at < *stage => Finding::skipped(*subject, "it did not come to that"),
            _ => passed(api, *subject),
        })
        .collect();
    let mut rest = match reached {
        Reached::Failed(..) => [Subject::TokenAccepted, Subject::SessionStarts]
            .map(|subject| Finding::skipped(subject, "Discord was not reached"))
            .into(),
        Reached::Answered(outcome) => answered(outcome, reserve, now),
    };
    findings.append(&mut rest);
    findings
}

fn passed(api: &Url, subject: Subject) -> Finding {
    let host = api.host_str().unwrap_or_default();
    let port = api.port_or_known_default().unwrap_or_default();
    match subject {
        Subject::Dns => match api.domain() {
            Some(_) => Finding::ok(subject, format!("{host} has an address")),
            None => Finding::skipped(subject, format!("{host} is an address")),
        },
        Subject::Tls if api.scheme() == "http" => {
            Finding::skipped(subject, "DISCORD_API begins with http://")
        }
        Subject::Tls => Finding::ok(subject, format!("{host} has a certificate to trust")),
        _ => Finding::ok(subject, format!("{host} takes connections on port {port}")),
    }
}

fn remedy(stage: Stage) -> &'static str {
    match stage {
        Stage::Dns => "look at the DNS of this machine or cluster, and at DISCORD_API",
        Stage::Tcp => "look at NetworkPolicies, firewalls and proxies, and at DISCORD_API",
        Stage::Tls => "look for a proxy that puts its own certificate there, and at the clock",
        Stage::Http => "look at proxies on the way, and at discordstatus.com",
    }
}

fn answered(outcome: &Outcome, reserve: u64, now: Timestamp) -> Vec<Finding> {
    use Subject::{Http, SessionStarts, TokenAccepted};
    let unknown = |subject| Finding::skipped(subject, "Discord did not say");
    let useless = |why: String, remedy: &str| {
        vec![
            Finding::failed(Http, why, remedy),
            unknown(TokenAccepted),
            unknown(SessionStarts),
        ]
    };
    match outcome {
        Outcome::Limits(limits) => vec![
            Finding::ok(Http, "Discord answers"),
            Finding::ok(TokenAccepted, "Discord takes the token"),
            session_starts(limits, reserve, now),
        ],
        Outcome::Rejected => vec![
            Finding::ok(Http, "Discord answers"),
            Finding::failed(
                TokenAccepted,
                "Discord rejects the token (401)",
                "make a new one in the Developer Portal (Bot, Reset Token), and put it where the token is read",
            ),
            unknown(SessionStarts),
        ],
        Outcome::RateLimited(after) => useless(
            format!("Discord answers 429, ask again in {}", words(*after)),
            "find what asks so often; the queue waits as long as it is told",
        ),
        Outcome::Invalid(why) | Outcome::Unreachable(why) => {
            useless(why.clone(), "look at DISCORD_API, and at discordstatus.com")
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
    let kept = match reserve {
        0 => String::new(),
        reserve => format!(", {reserve} of them kept back (SESSION_RESERVE)"),
    };
    let reset = match reset_after.is_zero() {
        true => String::new(),
        false => {
            let after = SignedDuration::try_from(*reset_after).ok();
            let at = after.and_then(|after| now.checked_add(after).ok());
            let at = at.map_or(String::new(), |at| format!(" ({at:.0})"));
            format!(", reset in {}{at}", words(*reset_after))
        }
    };
    let said = format!("{remaining} of {total} left{kept}{reset}");
    match *remaining > reserve {
        true => Finding::ok(Subject::SessionStarts, said),
        false => Finding::failed(
            Subject::SessionStarts,
            said,
            "nothing is granted until the reset: find the shards that identify again and again",
        ),
    }
}

/// Who leads, by the Lease `name`.
pub fn lease(name: &str, record: &LeaseObject, usual: Duration, now: Timestamp) -> Finding {
    let Some(holder) = &record.lease.holder else {
        return Finding::failed(
            Subject::Leader,
            format!("nobody holds the Lease {name}"),
            "look whether the queue's pods run, and what they log",
        );
    };
    // A leader is known by its pod, and a number for its term.
    let pod = holder
        .rsplit_once('_')
        .map_or(holder.as_str(), |(pod, _)| pod);
    let renewed = record.renewed.map(|at| now.duration_since(at));
    // Two machines' clocks are compared here: only what is long over is called so.
    let long = record.lease.duration.unwrap_or(usual) * 2;
    match renewed.and_then(|ago| Duration::try_from(ago).ok()) {
        Some(ago) if ago > long => Finding::failed(
            Subject::Leader,
            format!(
                "{pod} holds the Lease {name}, but did not renew it for {}",
                words(ago)
            ),
            "look whether the queue's pods run, and what they log",
        ),
        _ => Finding::ok(Subject::Leader, format!("{pod} holds the Lease {name}")),
    }
}

/// Who leads, as the Lease `name` cannot be read.
pub fn no_lease(name: &str, why: &str) -> Finding {
    Finding::failed(
        Subject::Leader,
        format!("the Lease {name} cannot be read: {why}"),
        "look at LEASE_NAME and LEASE_NAMESPACE, the queue's Role, and the way to the API server",
    )
}

/// Who leads, as the queue at `url` says; or why it says nothing.
pub fn queue(url: &str, asked: Result<&RemoteState, &str>) -> Finding {
    let seen = match asked {
        Ok(seen) => seen,
        Err(why) => {
            let words = format!("LEASE_NAME is not set, and no queue answers at {url}: {why}");
            return Finding::skipped(Subject::Leader, words);
        }
    };
    match (seen.role.as_str(), seen.why_not()) {
        ("leader", None) => Finding::ok(Subject::Leader, format!("the queue at {url} leads")),
        ("leader", Some(why)) => Finding::ok(
            Subject::Leader,
            format!("the queue at {url} leads, but grants nothing: {why}"),
        ),
        ("follower", None) => {
            let words = match seen.leader {
                Some(leader) => format!("the pod at {leader} leads"),
                None => "another pod leads".to_owned(),
            };
            Finding::ok(Subject::Leader, words)
        }
        (_, why) => Finding::failed(
            Subject::Leader,
            format!("the queue at {url} says: {}", why.unwrap_or_default()),
            "look at its log",
        ),
    }
}

#[cfg(test)]
mod tests;
