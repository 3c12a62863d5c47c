//! Events on a GatewayQueue, for `kubectl describe` and `kubectl get events`. They
//! are published beside the reconciles: one that fails or is late changes nothing.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use gateway_queue_telemetry::chain;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Client;
use kube::Resource as _;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::MANAGER;
use crate::api::{GatewayQueue, GatewayQueueStatus};
use crate::apply::drift::Deviation;
use crate::desired::{Kind, Owner};
use crate::events::rate_limit::Allowance;
use crate::status::{LEADER_REACHABLE, NORMAL, READY};

/// More are dropped: they tell of the past, and the status tells of now.
const MOST_WAITING: usize = 256;

const LIMIT: Duration = Duration::from_secs(10);

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// Whether somebody should look at it.
    pub warns: bool,
    /// One word in CamelCase.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// The child that it is about, if it is about one. Events of one reason are
    /// counted as one, but not those about different children.
    pub child: Option<ObjectReference>,
}

/// Where notes are left. Clones share it.
#[derive(Clone, Debug)]
pub struct Events(Sender<(ObjectReference, Note)>);

impl Events {
    /// A place for notes, and its other end, for [`publish`].
    pub fn new() -> (Self, Receiver<(ObjectReference, Note)>) {
        let (sender, receiver) = channel(MOST_WAITING);
        (Self(sender), receiver)
    }

    /// Leaves a note about the GatewayQueue of `owner`.
    pub fn leave(&self, owner: &Owner, note: Note) {
        let regarding = ObjectReference {
            api_version: Some(GatewayQueue::api_version(&()).into_owned()),
            kind: Some(GatewayQueue::kind(&()).into_owned()),
            name: Some(owner.name.clone()),
            namespace: Some(owner.namespace.clone()),
            uid: Some(owner.uid.clone()),
            // With the version, no event would be the same as one before.
            ..ObjectReference::default()
        };
        if self.0.try_send((regarding, note)).is_err() {
            tracing::debug!("an event was dropped: too many wait to be published");
        }
    }
}

/// Publishes notes until all who leave any are gone. `instance` is the pod.
pub async fn publish(
    client: Client,
    instance: Option<String>,
    mut notes: Receiver<(ObjectReference, Note)>,
) {
    let reporter = Reporter {
        controller: MANAGER.to_owned(),
        instance,
    };
    let recorder = Recorder::new(client, reporter);
    let mut allowance = Allowance::default();
    while let Some((regarding, note)) = notes.recv().await {
        let uid = regarding.uid.as_deref().unwrap_or_default();
        if !allowance.take(uid, Instant::now()) {
            continue;
        }
        let event = event(note);
        let publishing = recorder.publish(&event, &regarding);
        match tokio::time::timeout(LIMIT, publishing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(error = chain(&error), "an event was not published"),
            Err(_) => tracing::debug!("an event was not published in time"),
        }
    }
}

fn event(note: Note) -> Event {
    Event {
        type_: match note.warns {
            true => EventType::Warning,
            false => EventType::Normal,
        },
        reason: note.reason,
        note: Some(clip(note.message)),
        action: "Reconcile".to_owned(),
        secondary: note.child,
    }
}

/// An event takes 1024 bytes.
fn clip(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(1000));
    message
}

fn condition<'a>(status: &'a GatewayQueueStatus, type_: &str) -> Option<&'a Condition> {
    let mut conditions = status.conditions.iter().flatten();
    conditions.find(|condition| condition.type_ == type_)
}

/// What there is to note when a pod no longer reaches the leader, or all do so again.
pub fn reachability(
    before: Option<&GatewayQueueStatus>,
    after: &GatewayQueueStatus,
) -> Option<Note> {
    let new = condition(after, LEADER_REACHABLE)?;
    let old = before.and_then(|before| condition(before, LEADER_REACHABLE));
    let was_unreachable = old.is_some_and(|old| old.status == "False");
    let (warns, reason) = match new.status.as_str() {
        "False" if !was_unreachable => (true, new.reason.as_str()),
        "True" if was_unreachable => (false, LEADER_REACHABLE),
        _ => return None,
    };
    Some(Note {
        warns,
        reason: reason.to_owned(),
        message: new.message.clone(),
        child: None,
    })
}

/// What there is to note when `Ready` says something else than before.
pub fn transition(before: Option<&GatewayQueueStatus>, after: &GatewayQueueStatus) -> Option<Note> {
    let ready = |status| condition(status, READY).cloned();
    let new = ready(after)?;
    let old = before.and_then(ready);
    let is_new = old.is_none_or(|old| (old.status, old.reason) != (new.status, new.reason.clone()));
    is_new.then(|| Note {
        warns: !NORMAL.contains(&new.reason.as_str()),
        reason: new.reason,
        message: new.message,
        child: None,
    })
}

/// What there is to note when a child was reverted for the `count`th time in a row:
/// nothing new after the third.
pub fn repair(kind: Kind, owner: &Owner, count: u32) -> Option<Note> {
    let (
        word,
        Owner {
            name, namespace, ..
        },
    ) = (kind.as_str(), owner);
    let message = match count {
        0..=2 => format!(
            "Reverted an external change to {word} {name}. Make the change in the GatewayQueue spec \
             instead"
        ),
        3 => format!(
            "{word} {name} is changed again and again. The operator reverts it less and less often, \
             down to once in 5 min. See who changes it with `kubectl -n {namespace} get {} {name} \
             --show-managed-fields -o yaml`",
            word.to_lowercase()
        ),
        _ => return None,
    };
    Some(Note {
        warns: true,
        reason: "ChildReverted".to_owned(),
        message,
        child: Some(child(kind, owner)),
    })
}

/// What there is to note when admission changes these fields of what the operator
/// applies.
pub fn rewritten(kind: Kind, owner: &Owner, fields: &BTreeSet<Deviation>) -> Note {
    const NAMED: usize = 5;
    let mut names: Vec<&str> = fields.iter().map(|one| one.field.as_str()).collect();
    names.dedup();
    let more = match names.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    names.truncate(NAMED);
    let message = format!(
        "An admission policy or webhook changes what the operator applies to {} {}: {}{more}. The \
         operator leaves these fields as they are. Exclude the object from the policy, or remove \
         the fields from the GatewayQueue spec",
        kind.as_str(),
        owner.name,
        names.join(", ")
    );
    Note {
        warns: true,
        reason: "ChildRewritten".to_owned(),
        message,
        child: Some(child(kind, owner)),
    }
}

/// A child as events name it.
fn child(kind: Kind, owner: &Owner) -> ObjectReference {
    let resource = kind.resource();
    ObjectReference {
        api_version: Some(resource.api_version),
        kind: Some(resource.kind),
        name: Some(owner.name.clone()),
        namespace: Some(owner.namespace.clone()),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;
    use crate::desired::tests::owner;

    fn status(ready: &str, reason: &str, message: &str) -> GatewayQueueStatus {
        let condition = |type_| {
            json!({
                "type": type_, "status": ready, "reason": reason, "message": message,
                "lastTransitionTime": "2026-11-23T12:00:00Z",
            })
        };
        let conditions = json!([condition("Progressing"), condition("Ready")]);
        serde_json::from_value(json!({ "conditions": conditions })).unwrap()
    }

    #[test]
    fn a_transition_is_noted_and_a_new_message_is_not() {
        let missing = status("False", "TokenMissing", "no Secret");
        let note = transition(None, &missing).unwrap();
        assert!(note.warns);
        assert_eq!(
            (note.reason.as_str(), note.message.as_str()),
            ("TokenMissing", "no Secret")
        );
        assert_eq!(transition(Some(&missing), &missing), None);
        let other = status("False", "TokenMissing", "no key");
        assert_eq!(transition(Some(&missing), &other), None);
        let granting = status("True", "Granting", "up to one shard");
        assert!(!transition(Some(&other), &granting).unwrap().warns);
        let rollout = status("False", "RolloutInProgress", "one of two");
        assert!(!transition(Some(&granting), &rollout).unwrap().warns);
    }

    #[test]
    fn an_unreachable_leader_is_noted_once_and_so_is_its_return() {
        let status = |state: &str| {
            let condition = json!({"type": "LeaderReachable", "status": state, "message": "a sentence",
                "reason": if state == "False" { "LeaderUnreachable" } else { "Reachable" },
                "lastTransitionTime": "2026-11-23T12:00:00Z"});
            serde_json::from_value::<GatewayQueueStatus>(json!({"conditions": [condition]}))
                .unwrap()
        };
        let [yes, no, unknown] = ["True", "False", "Unknown"].map(status);
        for before in [None, Some(&yes), Some(&unknown)] {
            let note = reachability(before, &no).unwrap();
            assert_eq!(
                (note.warns, note.reason.as_str()),
                (true, "LeaderUnreachable")
            );
            assert_eq!(note.message, "a sentence");
        }
        let note = reachability(Some(&no), &yes).unwrap();
        assert_eq!(
            (note.warns, note.reason.as_str()),
            (false, "LeaderReachable")
        );
        for (before, after) in [(&no, &no), (&no, &unknown), (&unknown, &yes), (&yes, &yes)] {
            assert_eq!(reachability(Some(before), after), None);
        }
        assert_eq!(reachability(None, &yes), None);
    }

    #[test]
    fn an_event_is_never_too_long_for_the_api_server() {
        let note = Note {
            warns: true,
            reason: "ChildRefused".to_owned(),
            message: "é".repeat(900),
            child: None,
        };
        let note = event(note).note.unwrap();
        assert!((990..=1024).contains(&note.len()));
    }

    #[test]
    fn to_leave_more_notes_than_fit_never_waits_and_the_earliest_are_kept() {
        let (events, mut kept) = Events::new();
        for count in 0..2000 {
            let mut note = repair(Kind::Service, &owner(), 1).unwrap();
            note.message = count.to_string();
            events.leave(&owner(), note);
        }
        let kept = std::iter::from_fn(|| kept.try_recv().ok());
        let kept: Vec<_> = kept.map(|(_, note)| note.message).collect();
        let earliest: Vec<_> = (0..MOST_WAITING).map(|count| count.to_string()).collect();
        assert_eq!(kept, earliest);
    }

    /// Publishes these notes to an API server that answers the nth call, from
    /// nought, as `answers` says: with a code, or never. What it was called with.
    async fn published(notes: Vec<Note>, answers: impl Fn(usize) -> Option<u16>) -> Vec<Value> {
        let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let (events, receiver) = Events::new();
        for note in notes {
            events.leave(&owner(), note);
        }
        // Nobody is left to leave any.
        drop(events);
        let client = Client::new(service, "default");
        let publishing = tokio::spawn(publish(client, Some("operator-1".to_owned()), receiver));
        let mut calls = Vec::new();
        let mut unanswered = Vec::new();
        while let Some((request, send)) = handle.next_request().await {
            let body = request.into_body().collect_bytes().await.unwrap();
            let event: Value = serde_json::from_slice(&body).unwrap();
            let answer = answers(calls.len());
            calls.push(event.clone());
            let Some(code) = answer else {
                unanswered.push(send);
                continue;
            };
            let answer = match code {
                201 => event,
                code => json!({"kind": "Status", "status": "Failure", "code": code}),
            };
            let answer = Body::from(serde_json::to_vec(&answer).unwrap());
            send.send_response(Response::builder().status(code).body(answer).unwrap());
        }
        publishing.await.unwrap();
        calls
    }

    fn reported(reason: &str) -> Note {
        transition(None, &status("False", reason, "a sentence")).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_fails_or_hangs_costs_its_own_event_and_no_other() {
        let reasons = ["NoLeader", "TokenMissing", "Granting"];
        let started = tokio::time::Instant::now();
        let calls = published(reasons.map(reported).to_vec(), |call| match call {
            0 => Some(500),
            1 => None,
            _ => Some(201),
        });
        let limit = LIMIT + Duration::from_secs(1);
        let calls = tokio::time::timeout(limit, calls).await.unwrap();
        let called: Vec<_> = calls.iter().map(|call| call["reason"].clone()).collect();
        assert_eq!(called, reasons);
        assert_eq!(started.elapsed().as_secs(), LIMIT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn two_children_that_were_put_back_are_two_events_that_name_them() {
        let of = |kind, count| repair(kind, &owner(), count).unwrap();
        let notes = vec![
            of(Kind::Service, 1),
            of(Kind::Deployment, 1),
            of(Kind::Service, 2),
        ];
        let calls = published(notes, |_| Some(201)).await;
        let related = |call: &Value| {
            let related = &call["related"];
            let text = |field| related[field].as_str().unwrap_or_default().to_owned();
            (text("apiVersion"), text("kind"), text("name"))
        };
        let text = |api: &str, kind: &str| (api.to_owned(), kind.to_owned(), owner().name);
        let (service, deployment) = (text("v1", "Service"), text("apps/v1", "Deployment"));
        assert_eq!(
            calls.iter().map(related).collect::<Vec<_>>(),
            [service.clone(), deployment, service]
        );
        // The third is the first once more.
        let series = calls.iter().map(|call| call["series"]["count"].as_i64());
        assert_eq!(series.collect::<Vec<_>>(), [None, None, Some(2)]);
    }
}
