//! What the status says. Pure: what is observed, and the time, go in.

use std::sync::Arc;

use gateway_queue_core::lease_state::Entry;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt as _;

use crate::api::{GatewayQueue, GatewayQueueStatus, SessionStarts};
use crate::desired::{Kind, Owner};
use crate::observe::leader::Leader;

mod blocked;
mod discord_conditions;
mod leaderless;
mod pod_failure;
mod progress;
pub mod queue_ready;
mod reach;
mod ready;

use blocked::blocked;
use discord_conditions::{session_starts_available, token_accepted};
use progress::progress;
use reach::leader_reachable;
use ready::ready;

pub use crate::api::conditions::{
    LEADER_REACHABLE, NO_LEADER, NORMAL, PROGRESSING, READY, SESSION_STARTS_AVAILABLE,
    TOKEN_ACCEPTED,
};

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
    /// Another GatewayQueue has the token. This one has no pods.
    TokenShared(Holder),
    /// The API server, or what it asks, fails again and again.
    Failed(String),
}

/// Who has a token, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// An older GatewayQueue that names the same one.
    Older(String),
    /// One that does not name it any more, or is gone, and whose pods are still there.
    StillUp(String),
}

/// What is known of a queue when its status is written.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// What came of applying the children.
    pub outcome: &'a Outcome,
    /// The Deployment, as last seen.
    pub deployment: Option<&'a Deployment>,
    /// Its pods, as last seen.
    pub pods: &'a [Arc<Pod>],
    /// What the Deployment carries when it was applied from the present spec. A
    /// cache that lags behind still has the one before, all ready.
    pub mark: Option<&'a str>,
    /// The Lease, as last seen.
    pub lease: Option<&'a Lease>,
    /// Who leads.
    pub leader: &'a Leader,
}

/// Whether a status says that the children were applied from the spec of this
/// generation.
pub fn was_applied(status: Option<&GatewayQueueStatus>, generation: Option<i64>) -> bool {
    const NOT: [&str; 5] = [
        "ApplyFailed",
        "ChildRefused",
        "InvalidSpec",
        "NameTaken",
        "TokenShared",
    ];
    status.is_some_and(|status| {
        let mut conditions = status.conditions.iter().flatten();
        let said = conditions.find(|c| c.type_ == PROGRESSING);
        status.observed_generation == generation
            && said.is_some_and(|said| !NOT.contains(&said.reason.as_str()))
    })
}

/// The status of `queue` at `now`. It equals the one that is there when there is
/// nothing to say: the time of a transition moves only when a condition flips.
pub fn status(
    queue: &GatewayQueue,
    owner: &Owner,
    evidence: Evidence<'_>,
    now: Timestamp,
) -> GatewayQueueStatus {
    // Only a leader writes the lease state. Without one it is stale. Whoever leads grants
    // also while something is in the way of the spec, but for a queue that stands
    // down: its pods are on their way out.
    let (leader, entry) = match (evidence.outcome, evidence.leader) {
        (outcome, Leader::Pod { name, .. }) if !matches!(outcome, Outcome::TokenShared(_)) => (
            Some(name.clone()),
            evidence
                .lease
                .and_then(|lease| Entry::read(lease.annotations())),
        ),
        _ => (None, None),
    };
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
    if let Some(entry) = &entry {
        status.max_concurrency = entry.max_concurrency.map(i64::from);
        status.recommended_shards = entry.recommended_shards.map(i64::from);
        status.session_starts = entry.session_starts.map(|starts| SessionStarts {
            total: whole(starts.total),
            remaining: whole(starts.remaining),
            reset_time: starts.reset_time.map(Time),
        });
    }
    status.conditions = Some(conditions(queue, owner, evidence, entry.as_ref(), now));
    status
}

/// All conditions, the summary first.
fn conditions(
    queue: &GatewayQueue,
    owner: &Owner,
    evidence: Evidence<'_>,
    entry: Option<&Entry>,
    now: Timestamp,
) -> Vec<Condition> {
    let Evidence {
        outcome,
        deployment,
        pods,
        mark,
        ..
    } = evidence;
    let blocked = blocked(queue, owner, outcome);
    let progress = progress(owner, deployment, pods, mark);
    let progressing = blocked.clone().unwrap_or_else(|| progress.verdict.clone());
    let verdicts = [
        (
            READY,
            ready(queue, owner, evidence, blocked, &progress, entry),
        ),
        (PROGRESSING, progressing),
        (
            TOKEN_ACCEPTED,
            token_accepted(queue, owner, evidence, entry),
        ),
        (
            SESSION_STARTS_AVAILABLE,
            session_starts_available(queue, evidence, entry),
        ),
        (LEADER_REACHABLE, leader_reachable(owner, evidence)),
    ];
    let before = Before {
        status: queue.status.as_ref(),
        generation: queue.metadata.generation,
        now,
    };
    let reported = verdicts.into_iter();
    reported
        .map(|(type_, verdict)| before.condition(type_, verdict))
        .collect()
}

/// The status of a GatewayQueue whose spec cannot be read: what was said before
/// goes on, but that nothing follows its spec any more.
pub fn unreadable(
    before: Option<&GatewayQueueStatus>,
    generation: Option<i64>,
    why: &str,
    now: Timestamp,
) -> GatewayQueueStatus {
    let mut status = before.cloned().unwrap_or_default();
    status.observed_generation = generation;
    let message = format!(
        "The spec cannot be read: {why}. What was made of the spec before is left as it is. Apply a \
         spec that the CRD of this operator accepts"
    );
    let verdict = Verdict::not("InvalidSpec", message);
    let before = Before {
        status: before,
        generation,
        now,
    };
    let mut conditions = vec![
        before.condition(READY, verdict.clone()),
        before.condition(PROGRESSING, verdict),
    ];
    let others = status.conditions.take().into_iter().flatten();
    conditions.extend(others.filter(|c| c.type_ != READY && c.type_ != PROGRESSING));
    status.conditions = Some(conditions);
    status
}

/// What a condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Verdict {
    state: State,
    reason: &'static str,
    message: String,
}

/// Whether it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    True,
    False,
    Unknown,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl Verdict {
    fn holds(reason: &'static str, message: impl Into<String>) -> Self {
        Self::of(State::True, reason, message)
    }

    fn not(reason: &'static str, message: impl Into<String>) -> Self {
        Self::of(State::False, reason, message)
    }

    fn of(state: State, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            state,
            reason,
            message: message.into(),
        }
    }
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

/// What there was, to tell a flip by.
struct Before<'a> {
    status: Option<&'a GatewayQueueStatus>,
    generation: Option<i64>,
    now: Timestamp,
}

impl Before<'_> {
    fn condition(&self, type_: &str, verdict: Verdict) -> Condition {
        let state = verdict.state.as_str();
        let conditions = self.status.and_then(|status| status.conditions.as_deref());
        let since = conditions
            .into_iter()
            .flatten()
            .find(|c| c.type_ == type_ && c.status == state)
            .map(|c| c.last_transition_time.clone());
        Condition {
            type_: type_.to_owned(),
            status: state.to_owned(),
            reason: verdict.reason.to_owned(),
            message: clip(&verdict.message),
            last_transition_time: since.unwrap_or(Time(self.now)),
            observed_generation: self.generation,
        }
    }
}

/// How a person finds out more about the queue's pods.
fn look(how: &str, owner: &Owner) -> String {
    format!(
        "kubectl -n {} {how} -l app.kubernetes.io/instance={}",
        owner.namespace, owner.name
    )
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
