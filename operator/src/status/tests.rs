use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use gateway_queue_core::lease_state::{BlockedBy, Entry, SessionStarts, TokenState};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::*;
use crate::api::{ConditionType, GatewayQueue, GatewayQueueStatus};
use crate::apply::Outcome;
use crate::desired::{Kind, Owner};
use crate::observe::leader::Leader;
use crate::observe::observed::Observed;
use crate::observe::token_holder::Holder;
use crate::testing::queue;

mod leader_reachable;
mod pods;

const NOW: &str = "2026-11-23T12:00:00Z";
const LATER: &str = "2026-11-23T13:00:00Z";

fn led() -> Leader {
    Leader::Pod {
        name: "my-bot-7d9f".to_owned(),
        until: Instant::now(),
    }
}

fn with_token() -> GatewayQueue {
    queue(json!({"tokenSecretRef": {"name": "discord", "key": "bot"}, "sessionReserve": 10}))
}

fn deployment(status: Value) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "my-bot", "generation": 2},
        "spec": {"replicas": 1, "selector": {}, "template": {}},
        "status": status,
    }))
    .unwrap()
}

fn available() -> Deployment {
    deployment(json!({
        "observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1,
    }))
}

fn entry(blocked_by: Option<BlockedBy>) -> Entry {
    Entry {
        holder: "my-bot-7d9f".to_owned(),
        token: TokenState::Accepted,
        blocked_by,
        last_error: Some("it answered 503".to_owned()),
        max_concurrency: Some(16),
        recommended_shards: Some(128),
        session_starts: Some(SessionStarts {
            total: 1000,
            remaining: 7,
            reset_time: Some(LATER.parse().unwrap()),
        }),
    }
}

fn lease(entry: &Entry) -> Lease {
    let annotations: BTreeMap<String, String> = entry
        .annotations()
        .into_iter()
        .filter_map(|(k, v)| Some((k.to_owned(), v?)))
        .collect();
    let mut lease = Lease::default();
    lease.metadata.annotations = Some(annotations);
    lease
}

/// What the caches contain.
fn observed(deployment: Option<&Deployment>, lease: Option<&Lease>, leader: Leader) -> Observed {
    Observed {
        deployment: deployment.cloned().map(Arc::new),
        pods: Vec::new(),
        lease: lease.cloned().map(Arc::new),
        leader,
    }
}

/// The status at [`NOW`].
fn computed(queue: &GatewayQueue, outcome: &Outcome, observed: &Observed) -> GatewayQueueStatus {
    computed_at(NOW, queue, outcome, observed)
}

fn computed_at(
    now: &str,
    queue: &GatewayQueue,
    outcome: &Outcome,
    observed: &Observed,
) -> GatewayQueueStatus {
    let inputs = Inputs {
        queue,
        owner: &Owner::of(queue).unwrap(),
        outcome,
        deployment_hash: None,
        observed,
    };
    compute(inputs, now.parse().unwrap())
}

fn status_of(
    queue: &GatewayQueue,
    outcome: &Outcome,
    deployment: Option<&Deployment>,
    lease: Option<&Lease>,
) -> GatewayQueueStatus {
    let leader = lease.map_or(Leader::None, |_| led());
    computed(queue, outcome, &observed(deployment, lease, leader))
}

fn running(queue: &GatewayQueue, blocked_by: Option<BlockedBy>) -> GatewayQueueStatus {
    let lease = lease(&entry(blocked_by));
    status_of(queue, &Outcome::Applied, Some(&available()), Some(&lease))
}

fn ready(status: &GatewayQueueStatus) -> (&str, &str, &str) {
    let condition = &status.conditions.as_ref().unwrap()[0];
    (&condition.status, &condition.reason, &condition.message)
}

/// The status and the reason of another condition.
fn reported(status: &GatewayQueueStatus, type_: ConditionType) -> (String, String) {
    let condition = status.condition(type_).unwrap();
    (condition.status.clone(), condition.reason.clone())
}

#[test]
fn a_queue_that_grants_is_ready_and_reports_its_state() {
    let status = running(&with_token(), None);
    let (ready, reason, message) = ready(&status);
    assert_eq!((ready, reason), ("True", "Granting"));
    assert_eq!(
        message,
        "Up to 16 shards, one of each bucket, may identify every 5.25s. The last request to \
         Discord failed: it answered 503."
    );
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!(status.url.as_deref(), Some("http://my-bot.shop.svc"));
    assert_eq!(status.leader.as_deref(), Some("my-bot-7d9f"));
    assert_eq!(status.replicas, Some(1));
    assert_eq!(
        status.selector,
        Some(
            "app.kubernetes.io/component=queue,app.kubernetes.io/instance=my-bot,\
             app.kubernetes.io/name=gateway-queue"
                .to_owned()
        )
    );
    assert_eq!(status.max_concurrency, Some(16));
    assert_eq!(status.recommended_shards, Some(128));
    let starts = status.session_starts.clone().unwrap();
    assert_eq!((starts.total, starts.remaining), (1000, 7));
    assert_eq!(starts.reset_time, Some(Time(LATER.parse().unwrap())));
}

#[test]
fn a_blocked_queue_reports_why_and_what_to_do() {
    for (blocked_by, expected, text) in [
        (
            BlockedBy::TokenMissing,
            "TokenMissing",
            "Secret discord does not exist or has no token under key bot",
        ),
        (
            BlockedBy::TokenMissing,
            "TokenMissing",
            "kubectl -n shop create secret generic discord",
        ),
        (
            BlockedBy::TokenRejected,
            "TokenRejected",
            "Secret discord, key bot",
        ),
        (
            BlockedBy::SessionStartsUnknown,
            "DiscordUnreachable",
            "it answered 503",
        ),
        (
            BlockedBy::SessionStartsExhausted,
            "SessionStartsExhausted",
            "No session start of 1000",
        ),
        (
            BlockedBy::SessionStartsExhausted,
            "SessionStartsExhausted",
            "above the reserve of 10",
        ),
        (
            BlockedBy::SessionStartsExhausted,
            "SessionStartsExhausted",
            LATER,
        ),
    ] {
        let status = running(&with_token(), Some(blocked_by));
        let (ready, reason, message) = ready(&status);
        assert_eq!((ready, reason), ("False", expected));
        assert!(message.contains(text), "{message}");
    }
}

#[test]
fn what_prevents_an_apply_is_reported_first() {
    let of = |outcome: &Outcome| {
        let lease = lease(&entry(None));
        status_of(&with_token(), outcome, Some(&available()), Some(&lease))
    };
    let taken = of(&Outcome::NameTaken(vec![Kind::Service, Kind::Deployment]));
    let (_, reason, message) = ready(&taken);
    assert_eq!(reason, "NameTaken");
    assert!(
        message.contains("own already exist: Service, Deployment."),
        "{message}"
    );
    assert_eq!(taken.url, None);
    assert_eq!((&taken.replicas, &taken.selector), (&None, &None));

    let refused = of(&Outcome::Refused {
        kind: Kind::Deployment,
        message: "bad toleration".to_owned(),
    });
    let (_, reason, message) = ready(&refused);
    assert_eq!(reason, "ChildRefused");
    assert_eq!(
        message,
        "The API server rejected Deployment my-bot, which is built from spec.pod, spec.image and \
         others: bad toleration. Shards are still granted, by my-bot-7d9f."
    );

    let invalid = of(&Outcome::Invalid("spec.interval is wrong".to_owned()));
    assert_eq!(ready(&invalid).1, "InvalidSpec");
}

#[test]
fn the_leader_is_reported_while_the_spec_cannot_be_applied() {
    let invalid = Outcome::Invalid("spec.interval is wrong".to_owned());
    let refused = Outcome::Refused {
        kind: Kind::Service,
        message: "no".to_owned(),
    };
    let taken = Outcome::NameTaken(vec![Kind::Service]);
    for outcome in [invalid, refused, taken] {
        let of = |lease: Option<Lease>| {
            status_of(&with_token(), &outcome, Some(&available()), lease.as_ref())
        };
        let led = of(Some(lease(&entry(None))));
        assert_eq!(ready(&led).0, "False", "{outcome:?}");
        assert_eq!(led.leader.as_deref(), Some("my-bot-7d9f"), "{outcome:?}");
        assert!(led.session_starts.is_some(), "{outcome:?}");
        let accepted = ("True".to_owned(), "Accepted".to_owned());
        assert_eq!(
            reported(&led, ConditionType::TokenAccepted),
            accepted,
            "{outcome:?}"
        );
        // A leader that has not published anything.
        let silent = of(Some(Lease::default()));
        assert_eq!(unknown(&silent), "SessionStartsUnknown", "{outcome:?}");
        let unchecked = ("Unknown".to_owned(), "Unchecked".to_owned());
        assert_eq!(
            reported(&silent, ConditionType::TokenAccepted),
            unchecked,
            "{outcome:?}"
        );
        assert_eq!(unknown(&of(None)), "NoLeader", "{outcome:?}");
    }
    let shared = Outcome::TokenShared(Holder::Older("elder".to_owned()));
    let lease = lease(&entry(None));
    let leaving = status_of(&with_token(), &shared, Some(&available()), Some(&lease));
    assert_eq!(leaving.leader, None);
    assert_eq!(unknown(&leaving), "TokenShared");
}

/// The reason why the session starts are unknown.
fn unknown(status: &GatewayQueueStatus) -> String {
    let (state, reason) = reported(status, ConditionType::SessionStartsAvailable);
    assert_eq!(state, "Unknown");
    reason
}

#[test]
fn an_unchanged_queue_has_the_same_status_at_any_time() {
    let mut queue = with_token();
    let first = running(&queue, None);
    queue.status = Some(first.clone());
    let observed = observed(Some(&available()), Some(&lease(&entry(None))), led());
    let second = computed_at(LATER, &queue, &Outcome::Applied, &observed);
    assert_eq!(first, second);
}

#[test]
fn the_transition_time_changes_only_with_the_status_of_the_condition() {
    let mut queue = with_token();
    queue.status = Some(running(&queue, Some(BlockedBy::TokenMissing)));
    let since = |blocked_by| {
        let observed = observed(Some(&available()), Some(&lease(&entry(blocked_by))), led());
        let status = computed_at(LATER, &queue, &Outcome::Applied, &observed);
        status.conditions.unwrap()[0].last_transition_time.0
    };
    assert_eq!(since(Some(BlockedBy::TokenRejected)), NOW.parse().unwrap());
    assert_eq!(since(None), LATER.parse().unwrap());
}

#[test]
fn the_url_contains_a_port_other_than_80() {
    let queue = queue(json!({"service": {"port": 8080}}));
    let status = running(&queue, None);
    assert_eq!(status.url.as_deref(), Some("http://my-bot.shop.svc:8080"));
}

#[test]
fn a_long_message_of_the_api_server_is_cut() {
    let refused = Outcome::Refused {
        kind: Kind::Service,
        message: "é".repeat(5000),
    };
    let status = status_of(&with_token(), &refused, None, None);
    assert_eq!(ready(&status).2.chars().count(), 1025);
}

#[test]
fn token_and_session_starts_have_a_condition_each() {
    let starts = ConditionType::SessionStartsAvailable;
    let of = |token, blocked_by| {
        let mut entry = entry(blocked_by);
        entry.token = token;
        if token != TokenState::Accepted {
            entry.session_starts = None;
        }
        let lease = lease(&entry);
        let queue = with_token();
        status_of(&queue, &Outcome::Applied, Some(&available()), Some(&lease))
    };
    for (token, blocked_by, accepted, available) in [
        (
            TokenState::Accepted,
            None,
            "True Accepted",
            "True Available",
        ),
        (
            TokenState::Accepted,
            Some(BlockedBy::SessionStartsExhausted),
            "True Accepted",
            "False SessionStartsExhausted",
        ),
        (
            TokenState::Missing,
            Some(BlockedBy::TokenMissing),
            "False TokenMissing",
            "Unknown SessionStartsUnknown",
        ),
        (
            TokenState::Rejected,
            Some(BlockedBy::TokenRejected),
            "False TokenRejected",
            "Unknown SessionStartsUnknown",
        ),
        (
            TokenState::Unchecked,
            Some(BlockedBy::SessionStartsUnknown),
            "Unknown Unchecked",
            "Unknown SessionStartsUnknown",
        ),
    ] {
        let status = of(token, blocked_by);
        let text = |(state, reason): (String, String)| format!("{state} {reason}");
        assert_eq!(
            text(reported(&status, ConditionType::TokenAccepted)),
            accepted
        );
        assert_eq!(text(reported(&status, starts)), available);
    }
    let nobody = status_of(&with_token(), &Outcome::Applied, Some(&available()), None);
    let unknown = ("Unknown".to_owned(), "NoLeader".to_owned());
    assert_eq!(reported(&nobody, ConditionType::TokenAccepted), unknown);
    assert_eq!(reported(&nobody, starts), unknown);
    let without = running(&queue(json!({})), None);
    let none = ("True".to_owned(), "NoToken".to_owned());
    assert_eq!(reported(&without, ConditionType::TokenAccepted), none);
    assert_eq!(reported(&without, starts), none);
}

#[test]
fn a_shared_token_is_reported_with_its_holder() {
    let shared = Outcome::TokenShared(Holder::Older("elder".to_owned()));
    let status = status_of(&with_token(), &shared, Some(&available()), None);
    let (ready, reason, message) = ready(&status);
    assert_eq!((ready, reason), ("False", "TokenShared"));
    assert!(message.contains("GatewayQueue elder is older and uses Secret discord, key bot"));
    let shared = ("False".to_owned(), "TokenShared".to_owned());
    assert_eq!(reported(&status, ConditionType::TokenAccepted), shared);
    assert_eq!(reported(&status, ConditionType::Progressing), shared);
}

#[test]
fn an_unreadable_spec_is_reported_and_the_rest_of_the_status_stays() {
    let before = running(&with_token(), None);
    let now = LATER.parse().unwrap();
    let after = unreadable(Some(&before), Some(4), "spec.port: no number", now);
    let (ready, reason, message) = ready(&after);
    assert_eq!((ready, reason), ("False", "InvalidSpec"));
    assert!(message.starts_with("The operator cannot read the spec: spec.port: no number."));
    assert_eq!(after.url, before.url);
    assert_eq!(after.conditions.as_ref().unwrap().len(), 5);
    let again = unreadable(
        Some(&after),
        Some(4),
        "spec.port: no number",
        NOW.parse().unwrap(),
    );
    assert_eq!(again, after);
}
