//! Publishes events, for `kubectl describe` and `kubectl get events`. Reconciles do not wait
//! for it: an event that fails or is late changes nothing.

use std::time::{Duration, Instant};

use gateway_queue_telemetry::chain;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::Resource as _;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::record::EventRecord;
use crate::MANAGER;
use crate::api::GatewayQueue;
use crate::desired::Owner;
use crate::events::rate_limit::RateLimit;

/// The number of events that wait to be published. More are dropped: the status has the
/// current state.
const MAX_PENDING: usize = 256;

/// The time limit of a request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The API server accepts 1024 bytes.
const MAX_NOTE_BYTES: usize = 1000;

/// The events that wait to be published, each with its GatewayQueue.
pub type Pending = Receiver<(ObjectReference, EventRecord)>;

/// Records events to be published. Clones share a queue.
#[derive(Clone, Debug)]
pub struct EventRecorder(Sender<(ObjectReference, EventRecord)>);

impl EventRecorder {
    /// A recorder, and its events, for [`publish`].
    pub fn new() -> (Self, Pending) {
        let (sender, pending) = channel(MAX_PENDING);
        (Self(sender), pending)
    }

    /// Records an event of the GatewayQueue of `owner`.
    pub fn record(&self, owner: &Owner, event: EventRecord) {
        let regarding = ObjectReference {
            api_version: Some(GatewayQueue::api_version(&()).into_owned()),
            kind: Some(GatewayQueue::kind(&()).into_owned()),
            name: Some(owner.name.clone()),
            namespace: Some(owner.namespace.clone()),
            uid: Some(owner.uid.clone()),
            // With the resource version, no event would repeat an earlier one.
            ..ObjectReference::default()
        };
        if self.0.try_send((regarding, event)).is_err() {
            tracing::debug!("event dropped: too many are pending");
        }
    }
}

/// Publishes events until all recorders are dropped. `instance` is the name of this pod.
pub async fn publish(client: Client, instance: Option<String>, mut pending: Pending) {
    let reporter = Reporter {
        controller: MANAGER.to_owned(),
        instance,
    };
    let recorder = Recorder::new(client, reporter);
    let mut rate_limit = RateLimit::default();
    while let Some((regarding, record)) = pending.recv().await {
        let uid = regarding.uid.as_deref().unwrap_or_default();
        if !rate_limit.take(uid, Instant::now()) {
            continue;
        }
        let event = event(record);
        let publishing = recorder.publish(&event, &regarding);
        match tokio::time::timeout(TIMEOUT, publishing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(error = chain(&error), "cannot publish an event"),
            Err(_) => tracing::debug!(error = "timed out", "cannot publish an event"),
        }
    }
}

fn event(record: EventRecord) -> Event {
    let mut note = record.message;
    note.truncate(note.floor_char_boundary(MAX_NOTE_BYTES));
    Event {
        type_: match record.is_warning {
            true => EventType::Warning,
            false => EventType::Normal,
        },
        reason: record.reason.as_str().to_owned(),
        note: Some(note),
        action: "Reconcile".to_owned(),
        secondary: record.child,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Value;

    use super::*;
    use crate::api::Reason;
    use crate::desired::Kind;
    use crate::testing::{failure, mock_client, owner};

    fn record(reason: Reason, message: &str) -> EventRecord {
        EventRecord {
            is_warning: true,
            reason,
            message: message.to_owned(),
            child: None,
        }
    }

    #[test]
    fn an_event_is_never_too_long_for_the_api_server() {
        let note = event(record(Reason::ChildRefused, &"é".repeat(900))).note;
        let note = note.unwrap();
        assert!((990..=1024).contains(&note.len()));
    }

    #[test]
    fn recording_more_events_than_fit_never_waits_and_keeps_the_earliest() {
        let (recorder, mut pending) = EventRecorder::new();
        for count in 0..2000 {
            recorder.record(&owner(), record(Reason::Granting, &count.to_string()));
        }
        let kept = std::iter::from_fn(|| pending.try_recv().ok());
        let kept: Vec<_> = kept.map(|(_, record)| record.message).collect();
        let earliest: Vec<_> = (0..MAX_PENDING).map(|count| count.to_string()).collect();
        assert_eq!(kept, earliest);
    }

    /// Publishes these events to an API server that answers the nth call, from 0, with the
    /// code that `answers` returns, or never. Returns the bodies of the calls.
    async fn published(
        records: Vec<EventRecord>,
        answers: impl Fn(usize) -> Option<u16> + Send + 'static,
    ) -> Vec<Value> {
        let (recorder, pending) = EventRecorder::new();
        for record in records {
            recorder.record(&owner(), record);
        }
        drop(recorder);
        let (calls, made) = std::sync::mpsc::channel();
        let mut count = 0;
        let client = mock_client(move |_, event| {
            calls.send(event.clone()).unwrap();
            count += 1;
            let code = answers(count - 1)?;
            Some(if code == 201 {
                (code, event)
            } else {
                failure(code, "no")
            })
        });
        publish(client, Some("operator-1".to_owned()), pending).await;
        made.try_iter().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_or_hanging_call_loses_its_own_event_and_no_other() {
        let reasons = [Reason::NoLeader, Reason::TokenMissing, Reason::Granting];
        let started = tokio::time::Instant::now();
        let calls = published(
            reasons.map(|reason| record(reason, "")).to_vec(),
            |call| match call {
                0 => Some(500),
                1 => None,
                _ => Some(201),
            },
        );
        let limit = TIMEOUT + Duration::from_secs(1);
        let calls = tokio::time::timeout(limit, calls).await.unwrap();
        let called: Vec<_> = calls.iter().map(|call| call["reason"].clone()).collect();
        assert_eq!(called, reasons.map(Reason::as_str));
        assert_eq!(started.elapsed().as_secs(), TIMEOUT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn two_reverted_children_are_two_events_that_name_them() {
        let of = |kind, count| EventRecord::reverted(kind, &owner(), count).unwrap();
        let records = vec![
            of(Kind::Service, 1),
            of(Kind::Deployment, 1),
            of(Kind::Service, 2),
        ];
        let calls = published(records, |_| Some(201)).await;
        let related = |call: &Value| {
            let related = &call["related"];
            let text = |field| related[field].as_str().unwrap_or_default().to_owned();
            (text("apiVersion"), text("kind"), text("name"))
        };
        let text =
            |api: &str, kind: &str, name: &str| (api.to_owned(), kind.to_owned(), name.to_owned());
        let service = text("v1", "Service", "my-bot");
        let deployment = text("apps/v1", "Deployment", "my-bot-queue");
        assert_eq!(
            calls.iter().map(related).collect::<Vec<_>>(),
            [service.clone(), deployment, service]
        );
        // The third repeats the first.
        let series = calls.iter().map(|call| call["series"]["count"].as_i64());
        assert_eq!(series.collect::<Vec<_>>(), [None, None, Some(2)]);
    }
}
