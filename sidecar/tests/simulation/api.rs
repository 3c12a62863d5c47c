//! The API server: one Lease as JSON, and merge patches that name the version they change.

use std::sync::Arc;

use gateway_queue::leadership::lease_client;
use gateway_queue_core::leadership::lease_object::{Failure, LeaseObject};
use gateway_queue_core::lease_state::{HANDOVER, HandoverRecord};
use gateway_queue_core::testing::lease::{Refusal, Store};
use serde_json::{Value, json};

use crate::story::Broken;

#[derive(Clone, Debug)]
pub(crate) enum Request {
    Read,
    Patch(Value),
}

/// The purpose of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Acquire,
    Renew,
    Release,
}

/// A version of the Lease as it is sent. It is parsed once, because all pods read the same.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    json: String,
    /// The Lease in the body of an answer.
    pub(crate) answer: Option<LeaseObject>,
    /// The Lease in a line of a watch.
    pub(crate) event: Option<LeaseObject>,
}

/// The answer to a request.
pub(crate) type Answer = Result<Arc<Sent>, Failure>;

#[derive(Debug)]
pub(crate) struct Server {
    store: Store,
    sent: Arc<Sent>,
    pub(crate) up: bool,
    broken: Broken,
}

impl PartialEq for Sent {
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json
    }
}

impl Request {
    pub(crate) fn kind(&self) -> Option<Kind> {
        let Self::Patch(patch) = self else {
            return None;
        };
        Some(match patch["spec"].get("holderIdentity") {
            None => Kind::Renew,
            Some(holder) if holder == "" => Kind::Release,
            Some(_) => Kind::Acquire,
        })
    }
}

impl Server {
    pub(crate) fn new(broken: Broken) -> Self {
        Self {
            store: Store::default(),
            sent: Arc::default(),
            up: true,
            broken,
        }
    }

    pub(crate) fn lease(&self) -> Option<&Value> {
        self.store.lease()
    }

    /// Another client creates the Lease: blank, or a copy of an old one.
    pub(crate) fn create(&mut self, like: Option<Value>) {
        let blank = || json!({"metadata": {"name": "bot", "namespace": "default"}, "spec": {}});
        self.store.create(like.unwrap_or_else(blank));
        self.publish();
    }

    /// The operator creates the Lease of a new GatewayQueue.
    pub(crate) fn create_first(&mut self) {
        let annotations = json!({HANDOVER: HandoverRecord::NeverLed.write()});
        self.create(Some(
            json!({"metadata": {"name": "bot", "annotations": annotations}, "spec": {}}),
        ));
    }

    pub(crate) fn delete(&mut self) -> Option<Value> {
        self.store.delete()
    }

    /// Another client writes to the Lease, whatever its version is.
    pub(crate) fn write(&mut self, patch: &Value) {
        self.store.force(patch);
        self.publish();
    }

    pub(crate) fn sent(&self) -> Option<Arc<Sent>> {
        self.lease().map(|_| Arc::clone(&self.sent))
    }

    pub(crate) fn version(&self) -> Option<&str> {
        self.lease()?["metadata"]["resourceVersion"].as_str()
    }

    /// Answers a request, and returns whether it changed the Lease.
    pub(crate) fn serve(&mut self, request: &Request) -> (Answer, bool) {
        let before = self.store.version();
        let result = match request {
            Request::Read => self.store.read(),
            Request::Patch(patch) if self.broken == Broken::NoCompareAndSwap => {
                let mut patch = patch.clone();
                patch["metadata"]["resourceVersion"].take();
                self.store.patch(&patch)
            }
            Request::Patch(patch) => self.store.patch(patch),
        };
        let result = result.map(drop).map_err(|refusal| match refusal {
            Refusal::Missing => Failure::Missing,
            Refusal::Conflict => Failure::Conflict,
            Refusal::Invalid(field) => {
                Failure::Other(format!("the API server answered 422: {field}"))
            }
        });
        let changed = self.store.version() > before;
        if changed {
            self.publish();
        }
        (result.map(|()| Arc::clone(&self.sent)), changed)
    }

    fn publish(&mut self) {
        let Some(lease) = self.store.lease() else {
            return;
        };
        let json = lease.to_string();
        let event = format!(r#"{{"type":"MODIFIED","object":{json}}}"#);
        self.sent = Arc::new(Sent {
            answer: LeaseObject::parse(json.as_bytes()),
            event: lease_client::changed(event.as_bytes()),
            json,
        });
    }
}
