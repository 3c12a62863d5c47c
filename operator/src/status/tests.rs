use std::collections::BTreeMap;
use std::sync::Arc;

use gateway_queue_core::lease_state::{BlockedBy, Entry, SessionStarts, TokenState};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::*;
use crate::api::{ConditionType, GatewayQueue, GatewayQueueStatus};
use crate::apply::Outcome;
use crate::desired::{Kind, Owner};
use crate::observe::deployment::ObservedDeployment;
use crate::observe::leader::Leader;
use crate::observe::lease::ObservedLease;
use crate::observe::observed::Observed;
use crate::observe::token_holder::Holder;
use crate::testing::queue;

mod leader_reachable;
mod pods;

const NOW: &str = "2026-11-23T12:00:00Z";
const LATER: &str = "2026-11-23T13:00:00Z";

/// What a status is computed from.
struct Case {
    queue: GatewayQueue,
    outcome: Outcome,
    deployment_hash: Option<&'static str>,
    observed: Observed,
}

impl Case {
    /// A queue that grants, unless something blocks it.
    fn with(queue: GatewayQueue, blocked_by: Option<BlockedBy>) -> Self {
        Self {
            queue,
            outcome: Outcome::Applied,
            deployment_hash: None,
            observed: Observed {
                deployment: Some(Arc::new(available())),
                pods: Vec::new(),
                lease: Some(Arc::new(lease(&entry(blocked_by)))),
                leader: Leader::Pod {
                    name: "my-bot-7d9f".to_owned(),
                },
            },
        }
    }

    /// A queue with a token that grants.
    fn granting() -> Self {
        let spec = json!({
            "tokenSecretRef": {"name": "discord", "key": "bot"}, "sessionReserve": 10,
        });
        Self::with(queue(spec), None)
    }

    fn blocked_by(blocked_by: BlockedBy) -> Self {
        Self::with(Self::granting().queue, Some(blocked_by))
    }

    fn outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    fn deployment(mut self, deployment: Option<ObservedDeployment>) -> Self {
        self.observed.deployment = deployment.map(Arc::new);
        self
    }

    fn lease(mut self, lease: ObservedLease) -> Self {
        self.observed.lease = Some(Arc::new(lease));
        self
    }

    fn leader(mut self, leader: Leader) -> Self {
        self.observed.leader = leader;
        self
    }

    /// Without a leader or Lease.
    fn leaderless(mut self) -> Self {
        self.observed.lease = None;
        self.leader(Leader::None)
    }

    /// The status at [`NOW`].
    fn status(&self) -> GatewayQueueStatus {
        self.status_at(NOW)
    }

    fn status_at(&self, now: &str) -> GatewayQueueStatus {
        let inputs = Inputs {
            queue: &self.queue,
            owner: &Owner::of(&self.queue).unwrap(),
            outcome: &self.outcome,
            deployment_hash: self.deployment_hash,
            observed: &self.observed,
        };
        compute(inputs, now.parse().unwrap())
    }

    /// Reason and message of the condition `Ready`.
    fn reason_and_message(&self) -> (String, String) {
        let status = self.status();
        let (_, reason, message) = ready(&status);
        (reason.to_owned(), message.to_owned())
    }

    fn reason(&self) -> String {
        self.reason_and_message().0
    }
}

/// A Deployment of one pod with this status.
fn deployment(status: Value) -> ObservedDeployment {
    serde_json::from_value(json!({
        "metadata": {"name": "my-bot", "generation": 2},
        "spec": {"replicas": 1, "selector": {}, "template": {}},
        "status": status,
    }))
    .unwrap()
}

/// The status of a Deployment with these numbers of pods: all, updated and available ones.
fn counts(all: i32, updated: i32, available: i32) -> Value {
    json!({
        "observedGeneration": 2,
        "replicas": all, "updatedReplicas": updated, "availableReplicas": available,
    })
}

fn available() -> ObservedDeployment {
    deployment(counts(1, 1, 1))
}

fn entry(blocked_by: Option<BlockedBy>) -> Entry {
    Entry {
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
        ..Entry::new("my-bot-7d9f")
    }
}

fn lease(entry: &Entry) -> ObservedLease {
    lease_with(&annotations(entry), &Value::Null)
}

fn annotations(entry: &Entry) -> BTreeMap<String, String> {
    let annotations = entry.annotations().into_iter();
    annotations
        .filter_map(|(k, v)| Some((k.to_owned(), v?)))
        .collect()
}

fn lease_with(annotations: &BTreeMap<String, String>, spec: &Value) -> ObservedLease {
    let lease = json!({"metadata": {"annotations": annotations}, "spec": spec});
    serde_json::from_value(lease).unwrap()
}

/// Status, reason and message of the condition `Ready`.
fn ready(status: &GatewayQueueStatus) -> (&str, &str, &str) {
    let condition = &status.conditions.as_ref().unwrap()[0];
    (&condition.status, &condition.reason, &condition.message)
}

/// The status and the reason of another condition.
fn condition(status: &GatewayQueueStatus, type_: ConditionType) -> String {
    let condition = status.condition(type_).unwrap();
    format!("{} {}", condition.status, condition.reason)
}

fn shared() -> Outcome {
    Outcome::TokenShared(Holder::Older("elder".to_owned()))
}

fn refused(kind: Kind, message: &str) -> Outcome {
    let message = message.to_owned();
    Outcome::Refused { kind, message }
}

#[test]
fn a_queue_that_grants_is_ready_and_reports_its_state() {
    let status = Case::granting().status();
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
        status.selector.as_deref(),
        Some(
            "app.kubernetes.io/component=queue,app.kubernetes.io/instance=my-bot,\
             app.kubernetes.io/name=gateway-queue"
        )
    );
    assert_eq!(status.max_concurrency, Some(16));
    assert_eq!(status.recommended_shards, Some(128));
    let starts = status.session_starts.unwrap();
    assert_eq!((starts.total, starts.remaining), (1000, 7));
    assert_eq!(starts.reset_time, Some(Time(LATER.parse().unwrap())));
}

#[test]
fn a_blocked_queue_reports_why_and_what_to_do() {
    let missing: &[&str] = &[
        "Secret discord has no usable token under key bot",
        "kubectl -n shop create secret generic discord",
        "If the Secret is immutable, create another one",
    ];
    let rejected = &[
        "Secret discord, key bot",
        "If the Secret is immutable, create another one",
    ];
    let exhausted = &["No session start of 1000", "above the reserve of 10", LATER];
    for (blocked_by, expected, texts) in [
        (BlockedBy::TokenMissing, "TokenMissing", missing),
        (BlockedBy::TokenRejected, "TokenRejected", rejected),
        (
            BlockedBy::SessionStartsUnknown,
            "DiscordUnreachable",
            &["it answered 503"],
        ),
        (
            BlockedBy::SessionStartsExhausted,
            "SessionStartsExhausted",
            exhausted,
        ),
    ] {
        let status = Case::blocked_by(blocked_by).status();
        let (ready, reason, message) = ready(&status);
        assert_eq!((ready, reason), ("False", expected));
        for text in texts {
            assert!(message.contains(text), "{message}");
        }
    }
}

#[test]
fn what_prevents_an_apply_is_reported_first() {
    let taken = Outcome::NameTaken(vec![Kind::Service, Kind::Deployment]);
    let taken = Case::granting().outcome(taken).status();
    let (_, reason, message) = ready(&taken);
    assert_eq!(reason, "NameTaken");
    assert!(
        message.contains(": Service my-bot, Deployment my-bot-queue."),
        "{message}"
    );
    assert_eq!(taken.url, None);
    assert_eq!((&taken.replicas, &taken.selector), (&None, &None));

    let refused = refused(Kind::Deployment, "bad toleration");
    let (reason, message) = Case::granting().outcome(refused).reason_and_message();
    assert_eq!(reason, "ChildRefused");
    assert_eq!(
        message,
        "The API server rejected Deployment my-bot-queue, which is built from spec.pod, spec.image and \
         others: bad toleration. my-bot-7d9f still grants."
    );

    let invalid = Outcome::Invalid("spec.interval is wrong".to_owned());
    assert_eq!(Case::granting().outcome(invalid).reason(), "InvalidSpec");
}

#[test]
fn the_leader_is_reported_while_the_spec_cannot_be_applied() {
    let (token, starts) = (
        ConditionType::TokenAccepted,
        ConditionType::SessionStartsAvailable,
    );
    for outcome in [
        Outcome::Invalid("spec.interval is wrong".to_owned()),
        refused(Kind::Service, "no"),
        Outcome::NameTaken(vec![Kind::Service]),
    ] {
        let case = Case::granting().outcome(outcome);
        let outcome = &case.outcome;
        let led = case.status();
        assert_eq!(ready(&led).0, "False", "{outcome:?}");
        assert_eq!(led.leader.as_deref(), Some("my-bot-7d9f"), "{outcome:?}");
        assert!(led.session_starts.is_some(), "{outcome:?}");
        assert_eq!(condition(&led, token), "True Accepted", "{outcome:?}");
        // A leader that has not published anything.
        let case = case.lease(ObservedLease::default());
        let silent = case.status();
        assert_eq!(condition(&silent, starts), "Unknown SessionStartsUnknown");
        assert_eq!(condition(&silent, token), "Unknown Unchecked");
        assert_eq!(
            condition(&case.leaderless().status(), starts),
            "Unknown NoLeader"
        );
    }
    let leaving = Case::granting().outcome(shared()).status();
    assert_eq!(leaving.leader, None);
    assert_eq!(condition(&leaving, starts), "Unknown TokenShared");
}

#[test]
fn an_unchanged_queue_has_the_same_status_at_any_time() {
    let mut case = Case::granting();
    let first = case.status();
    case.queue.status = Some(first.clone());
    assert_eq!(case.status_at(LATER), first);
}

#[test]
fn the_transition_time_changes_only_with_the_status_of_the_condition() {
    let before = Case::blocked_by(BlockedBy::TokenMissing).status();
    let rejected = Case::blocked_by(BlockedBy::TokenRejected);
    for (mut case, since) in [(rejected, NOW), (Case::granting(), LATER)] {
        case.queue.status = Some(before.clone());
        let conditions = case.status_at(LATER).conditions.unwrap();
        assert_eq!(conditions[0].last_transition_time.0, since.parse().unwrap());
    }
}

#[test]
fn the_url_contains_a_port_other_than_80() {
    let queue = queue(json!({"service": {"port": 8080}}));
    let url = Case::with(queue, None).status().url;
    assert_eq!(url.as_deref(), Some("http://my-bot.shop.svc:8080"));
}

#[test]
fn a_long_message_of_the_api_server_is_cut() {
    let refused = refused(Kind::Service, &"é".repeat(5000));
    let (_, message) = Case::granting().outcome(refused).reason_and_message();
    assert_eq!(message.chars().count(), 1025);
}

#[test]
fn token_and_session_starts_have_a_condition_each() {
    let both = |case: Case| {
        let status = case.status();
        [
            ConditionType::TokenAccepted,
            ConditionType::SessionStartsAvailable,
        ]
        .map(|type_| condition(&status, type_))
    };
    let unknown = "Unknown SessionStartsUnknown";
    for (token, blocked_by, expected) in [
        (
            TokenState::Accepted,
            None,
            ["True Accepted", "True Available"],
        ),
        (
            TokenState::Accepted,
            Some(BlockedBy::SessionStartsExhausted),
            ["True Accepted", "False SessionStartsExhausted"],
        ),
        (
            TokenState::Missing,
            Some(BlockedBy::TokenMissing),
            ["False TokenMissing", unknown],
        ),
        (
            TokenState::Rejected,
            Some(BlockedBy::TokenRejected),
            ["False TokenRejected", unknown],
        ),
        (
            TokenState::Unchecked,
            Some(BlockedBy::SessionStartsUnknown),
            ["Unknown Unchecked", unknown],
        ),
    ] {
        let mut entry = entry(blocked_by);
        entry.token = token;
        if token != TokenState::Accepted {
            entry.session_starts = None;
        }
        assert_eq!(both(Case::granting().lease(lease(&entry))), expected);
    }
    assert_eq!(both(Case::granting().leaderless()), ["Unknown NoLeader"; 2]);
    assert_eq!(
        both(Case::with(queue(json!({})), None)),
        ["True NoToken"; 2]
    );
}

/// A queue that grants, with these shards that have invalid sessions and that crash-loop.
fn troubled(invalid: &[u32], crash_looping: &[u32]) -> Case {
    let mut entry = entry(None);
    entry.invalid_session_shards = invalid.to_vec();
    entry.crash_looping_shards = crash_looping.to_vec();
    Case::granting().lease(lease(&entry))
}

fn message(case: &Case, type_: ConditionType) -> String {
    case.status().condition(type_).unwrap().message.clone()
}

#[test]
fn shards_with_invalid_sessions_are_named_with_what_to_check() {
    let degraded = |case: &Case| condition(&case.status(), ConditionType::Degraded);
    let healthy = troubled(&[], &[7]);
    assert_eq!(degraded(&healthy), "False Healthy");
    for (shards, named) in [
        (&[3][..], "Shard 3 had more than 3 invalid sessions in 10"),
        (&[3, 7], "Shards 3 and 7 had more"),
        (&[0, 3, 7], "Shards 0, 3 and 7 had more"),
    ] {
        let case = troubled(shards, &[]);
        assert_eq!(degraded(&case), "True InvalidSessions");
        let message = message(&case, ConditionType::Degraded);
        assert!(message.starts_with(named), "{message}");
        assert!(message.contains("increase spec.margin"), "{message}");
        assert_eq!(case.reason(), "Granting");
    }
    for (case, expected) in [
        (troubled(&[3], &[]).leader(Leader::None), "Unknown NoLeader"),
        (
            Case::granting().lease(ObservedLease::default()),
            "Unknown Unchecked",
        ),
        (troubled(&[3], &[]).outcome(shared()), "Unknown TokenShared"),
    ] {
        assert_eq!(degraded(&case), expected);
    }
}

#[test]
fn crash_looping_shards_are_added_to_the_message_about_session_starts() {
    let type_ = ConditionType::SessionStartsAvailable;
    let before = message(&troubled(&[3], &[]), type_);
    let case = troubled(&[3], &[7, 9]);
    assert_eq!(condition(&case.status(), type_), "True Available");
    let added = " Shards 7 and 9 had 10 grants in 10 minutes, as in a crash loop, so further \
                 grants are delayed. Check the log of the bot.";
    assert_eq!(message(&case, type_), before + added);
    let without_token = Case::with(queue(json!({})), None).lease(lease(&Entry {
        crash_looping_shards: vec![7],
        ..Entry::new("my-bot-7d9f")
    }));
    let message = message(&without_token, type_);
    assert!(message.contains(" Shard 7 had 10 grants"), "{message}");
}

#[test]
fn a_shared_token_is_reported_with_its_holder() {
    let status = Case::granting().outcome(shared()).leaderless().status();
    let (ready, reason, message) = ready(&status);
    assert_eq!((ready, reason), ("False", "TokenShared"));
    assert!(message.contains("GatewayQueue elder is older and uses Secret discord, key bot"));
    for type_ in [ConditionType::TokenAccepted, ConditionType::Progressing] {
        assert_eq!(condition(&status, type_), "False TokenShared");
    }
}

#[test]
fn an_unreadable_spec_is_reported_and_the_rest_of_the_status_stays() {
    let before = Case::granting().status();
    let at = |before, now: &str| {
        unreadable(
            Some(before),
            Some(4),
            "spec.port: no number",
            now.parse().unwrap(),
        )
    };
    let after = at(&before, LATER);
    let (ready, reason, message) = ready(&after);
    assert_eq!((ready, reason), ("False", "InvalidSpec"));
    assert!(message.starts_with("The operator cannot read the spec: spec.port: no number."));
    assert_eq!(after.url, before.url);
    assert_eq!(after.conditions.as_ref().unwrap().len(), 6);
    assert_eq!(at(&after, NOW), after);
}
