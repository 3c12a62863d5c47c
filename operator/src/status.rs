//! What the status says. Pure: what is observed, and the time, go in.

use gateway_queue_logbook::{Entry, Hold};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt as _;

use crate::api::{GatewayQueue, GatewayQueueStatus, SessionStarts, parse_duration};
use crate::desired::{Kind, Owner};
use crate::leader::Leader;

mod pods;

use pods::{leaderless, rollout, scaled_to_zero};

/// The condition that sums up all others.
pub const READY: &str = "Ready";

/// Why nothing is granted when no pod leads.
pub const NO_LEADER: &str = "NoLeader";

/// What came of applying the children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All are there.
    Applied,
    /// Objects of these kinds have the name already, and are not ours.
    NameTaken(Vec<Kind>),
    /// The API server does not take a child.
    Refused {
        /// The kind of the child.
        kind: Kind,
        /// What the API server said.
        message: String,
    },
    /// No children can be made of this spec.
    Invalid(String),
}

/// What is known of a queue when its status is written.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// What came of applying the children.
    pub outcome: &'a Outcome,
    /// The Deployment, as last seen.
    pub deployment: Option<&'a Deployment>,
    /// What the Deployment carries when it was applied from the present spec. A
    /// cache that lags behind still has the one before, all ready.
    pub mark: Option<&'a str>,
    /// The Lease, as last seen.
    pub lease: Option<&'a Lease>,
    /// Who leads.
    pub leader: &'a Leader,
}

/// The status of `queue` at `now`. It equals the one that is there when there is
/// nothing to say: the time of a transition moves only when `Ready` flips.
pub fn status(
    queue: &GatewayQueue,
    owner: &Owner,
    evidence: Evidence<'_>,
    now: Timestamp,
) -> GatewayQueueStatus {
    let rollout = rollout(owner, evidence.deployment, evidence.mark);
    // Only a leader writes the logbook. Without one it is old.
    let (leader, entry) = match (evidence.outcome, evidence.leader) {
        (Outcome::Applied, Leader::Pod { name, .. }) => (
            Some(name.clone()),
            evidence
                .lease
                .and_then(|lease| Entry::read(lease.annotations())),
        ),
        _ => (None, None),
    };
    let verdict = verdict(queue, owner, evidence, rollout, entry.as_ref());
    let generation = queue.metadata.generation;
    let mut status = GatewayQueueStatus {
        observed_generation: generation,
        leader,
        ..GatewayQueueStatus::default()
    };
    if !matches!(evidence.outcome, Outcome::NameTaken(_)) {
        status.url = Some(url(owner, queue.spec.service.port));
        status.selector = Some(owner.selector_text());
        let pods = evidence
            .deployment
            .and_then(|d| d.status.as_ref()?.replicas);
        status.replicas = Some(pods.unwrap_or(0));
    }
    if let Some(entry) = entry {
        status.max_concurrency = entry.max_concurrency.map(i64::from);
        status.recommended_shards = entry.recommended_shards.map(i64::from);
        status.session_starts = entry.session_starts.map(|starts| SessionStarts {
            total: whole(starts.total),
            remaining: whole(starts.remaining),
            reset_time: starts.reset_time.map(Time),
        });
    }
    let before = queue.status.as_ref();
    status.conditions = Some(vec![condition(verdict, before, generation, now)]);
    status
}

/// What `Ready` says.
struct Verdict {
    ready: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn not(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            ready: false,
            reason,
            message: message.into(),
        }
    }
}

fn verdict(
    queue: &GatewayQueue,
    owner: &Owner,
    evidence: Evidence<'_>,
    rollout: Result<(), Verdict>,
    entry: Option<&Entry>,
) -> Verdict {
    match evidence.outcome {
        Outcome::NameTaken(kinds) => return name_taken(owner, kinds),
        Outcome::Refused { kind, message } => {
            return Verdict::not(
                "ChildRefused",
                format!("The API server refuses the {}: {message}", kind.word()),
            );
        }
        Outcome::Invalid(message) => return Verdict::not("InvalidSpec", sentence(message)),
        Outcome::Applied => {}
    }
    if queue.spec.replicas == 0 {
        return scaled_to_zero(owner);
    }
    if let Err(verdict) = rollout {
        return verdict;
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
        None => Verdict {
            ready: true,
            reason: "Granting",
            message: granting(queue, entry),
        },
    }
}

fn name_taken(owner: &Owner, kinds: &[Kind]) -> Verdict {
    let kinds: Vec<&str> = kinds.iter().map(|kind| kind.word()).collect();
    Verdict::not(
        "NameTaken",
        format!(
            "Not made by this GatewayQueue, but there already under the name {}: {}. Nothing was \
             touched; delete what is in the way, or give the GatewayQueue another name",
            owner.name,
            kinds.join(", ")
        ),
    )
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
        Hold::SessionStartsUnknown => Verdict::not(
            "SessionStartsUnknown",
            match &entry.detail {
                Some(detail) => format!(
                    "Discord has not told yet how many session starts are left: {detail}. The \
                     queue asks again by itself"
                ),
                None => "Discord has not told yet how many session starts are left. The queue \
                         asks again by itself"
                    .to_owned(),
            },
        ),
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

fn url(owner: &Owner, port: i32) -> String {
    let Owner {
        name, namespace, ..
    } = owner;
    match port {
        80 => format!("http://{name}.{namespace}.svc"),
        port => format!("http://{name}.{namespace}.svc:{port}"),
    }
}

fn condition(
    verdict: Verdict,
    before: Option<&GatewayQueueStatus>,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let status = if verdict.ready { "True" } else { "False" };
    let since = before
        .and_then(|status| status.conditions.as_deref())
        .into_iter()
        .flatten()
        .find(|c| c.type_ == READY && c.status == status)
        .map(|c| c.last_transition_time.clone());
    Condition {
        type_: READY.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.to_owned(),
        message: clip(&verdict.message),
        last_transition_time: since.unwrap_or(Time(now)),
        observed_generation: generation,
    }
}

/// A sentence of the API server as one of ours: it starts with a capital.
fn sentence(message: &str) -> String {
    let mut chars = message.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// A condition is read in a terminal: a long answer of the API server is cut.
fn clip(message: &str) -> String {
    const MOST: usize = 1024;
    match message.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", message.get(..end).unwrap_or_default()),
        None => message.to_owned(),
    }
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
