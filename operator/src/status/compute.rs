//! Computes the status. Pure: time is an argument.

use gateway_queue_core::lease_state::Entry;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::condition_value::ConditionValue;
use super::discord_conditions::{degraded, session_starts_available, token_accepted};
use super::leader_reachable::leader_reachable;
use super::progress::progress;
use super::ready::ready;
use super::spec_blocked::spec_blocked;
use crate::api::{ConditionType, GatewayQueue, GatewayQueueStatus, Reason, SessionStarts};
use crate::apply::Outcome;
use crate::desired::Owner;
use crate::observe::leader::Leader;
use crate::observe::observed::Observed;

/// What a status is computed from.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The GatewayQueue.
    pub queue: &'a GatewayQueue,
    /// Its identity.
    pub owner: &'a Owner,
    /// The result of applying its children.
    pub outcome: &'a Outcome,
    /// The hash of the Deployment of the current spec.
    pub deployment_hash: Option<&'a str>,
    /// What the caches contain.
    pub observed: &'a Observed,
}

/// Returns the status at `now`. It equals the existing one if nothing has changed.
pub fn compute(inputs: Inputs<'_>, now: Timestamp) -> GatewayQueueStatus {
    let Inputs {
        queue,
        owner,
        outcome,
        observed,
        ..
    } = inputs;
    // Only a leader writes the lease state; without one it is stale. A leader grants even if
    // the spec cannot be applied, unless another GatewayQueue has the token: then the pods of
    // this one are terminating.
    let (leader, entry) = match &observed.leader {
        Leader::Pod { name } if !matches!(outcome, Outcome::TokenShared(_)) => {
            let lease = observed.lease.as_deref();
            let entry = lease.and_then(|lease| Entry::read(&lease.metadata.annotations()));
            (Some(name.clone()), entry)
        }
        _ => (None, None),
    };
    let mut status = GatewayQueueStatus {
        observed_generation: queue.metadata.generation,
        leader,
        ..GatewayQueueStatus::default()
    };
    if !matches!(outcome, Outcome::NameTaken(_)) {
        status.url = Some(url(owner, queue.spec.service.port));
        status.selector = Some(owner.selector_text());
        let deployment = observed.deployment.as_ref();
        let replicas = deployment.and_then(|deployment| deployment.status.replicas);
        status.replicas = Some(replicas.unwrap_or(0));
    }
    if let Some(entry) = &entry {
        status.max_concurrency = entry.max_concurrency.map(i64::from);
        status.recommended_shards = entry.recommended_shards.map(i64::from);
        status.session_starts = entry.session_starts.map(|starts| SessionStarts {
            total: saturated(starts.total),
            remaining: saturated(starts.remaining),
            reset_time: starts.reset_time.map(Time),
        });
    }
    status.conditions = Some(conditions(inputs, entry.as_ref(), now));
    status
}

/// All conditions, `Ready` first.
fn conditions(inputs: Inputs<'_>, entry: Option<&Entry>, now: Timestamp) -> Vec<Condition> {
    let blocked = spec_blocked(inputs);
    let progress = progress(inputs);
    let progressing = blocked.clone().unwrap_or_else(|| progress.value.clone());
    let values = [
        (
            ConditionType::Ready,
            ready(inputs, blocked, &progress, entry),
        ),
        (ConditionType::Progressing, progressing),
        (ConditionType::TokenAccepted, token_accepted(inputs, entry)),
        (
            ConditionType::SessionStartsAvailable,
            session_starts_available(inputs, entry),
        ),
        (ConditionType::LeaderReachable, leader_reachable(inputs)),
        (ConditionType::Degraded, degraded(inputs, entry)),
    ];
    let before = inputs.queue.status.as_ref();
    let generation = inputs.queue.metadata.generation;
    values
        .into_iter()
        .map(|(type_, value)| value.condition(type_, before, generation, now))
        .collect()
}

/// Returns the status of a GatewayQueue whose spec cannot be read: the one `before`, except
/// that the conditions report it.
pub fn unreadable(
    before: Option<&GatewayQueueStatus>,
    generation: Option<i64>,
    error: &str,
    now: Timestamp,
) -> GatewayQueueStatus {
    let mut status = before.cloned().unwrap_or_default();
    status.observed_generation = generation;
    let message = format!(
        "The operator cannot read the spec: {error}. Existing objects are left unchanged: apply a \
         spec that the CRD of this operator version accepts."
    );
    let value = ConditionValue::no(Reason::InvalidSpec, message);
    let set = [ConditionType::Ready, ConditionType::Progressing];
    let mut conditions = set
        .map(|type_| value.clone().condition(type_, before, generation, now))
        .to_vec();
    let others = status.conditions.take().into_iter().flatten();
    conditions.extend(others.filter(|c| set.iter().all(|set| c.type_ != set.as_str())));
    status.conditions = Some(conditions);
    status
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

fn saturated(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
