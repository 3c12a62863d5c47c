//! The API server: one Lease as JSON, and merge patches that carry the version
//! which they change.

use std::sync::Arc;

use gateway_queue::leadership::lease_client;
use gateway_queue_core::leadership::lease_object::{Failure, LeaseObject};
use gateway_queue_core::lease_state::{HANDOVER, Release};
use gateway_queue_core::testing::merge;
use serde_json::{Value, json};

use crate::story::Broken;

#[derive(Clone, Debug)]
pub(crate) enum Request {
    Read,
    Patch(Value),
}

/// What a patch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Take,
    Renew,
    Release,
}

/// A version of the Lease, as it is sent and as a pod reads it. Reading it once is
/// enough, as all read the same.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    json: String,
    /// From the body of an answer.
    pub(crate) answer: Option<LeaseObject>,
    /// From a line of a watch.
    pub(crate) event: Option<LeaseObject>,
}

/// The Lease, or why there is none.
pub(crate) type Answer = Result<Arc<Sent>, Failure>;

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) lease: Option<Value>,
    sent: Arc<Sent>,
    pub(crate) up: bool,
    broken: Broken,
    versions: u64,
    uids: u64,
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
            Some(_) => Kind::Take,
        })
    }
}

impl Server {
    pub(crate) fn new(broken: Broken) -> Self {
        Self {
            lease: None,
            sent: Arc::default(),
            up: true,
            broken,
            versions: 0,
            uids: 0,
        }
    }

    /// Somebody makes a Lease where there is none, blank or like an old one.
    pub(crate) fn create(&mut self, like: Option<Value>) {
        self.uids += 1;
        let mut lease = like.unwrap_or_else(|| {
            json!({
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": "bot", "namespace": "default"},
                "spec": {},
            })
        });
        lease["metadata"]["uid"] = format!("uid-{}", self.uids).into();
        self.store(lease);
    }

    /// The operator makes the Lease of a GatewayQueue that is new.
    pub(crate) fn create_first(&mut self) {
        let annotations = json!({HANDOVER: Release::NeverLed.write()});
        self.create(Some(
            json!({"metadata": {"name": "bot", "annotations": annotations}, "spec": {}}),
        ));
    }

    /// Another client writes to it, whatever its version is.
    pub(crate) fn write(&mut self, patch: &Value) {
        if let Some(mut lease) = self.lease.take() {
            let uid = lease["metadata"]["uid"].clone();
            merge(&mut lease, patch);
            lease["metadata"]["uid"] = uid;
            self.store(lease);
        }
    }

    pub(crate) fn sent(&self) -> Option<Arc<Sent>> {
        self.lease.is_some().then(|| Arc::clone(&self.sent))
    }

    pub(crate) fn version(&self) -> Option<&str> {
        self.lease.as_ref()?["metadata"]["resourceVersion"].as_str()
    }

    /// Does what was asked. The answer, and whether the Lease was changed.
    pub(crate) fn serve(&mut self, request: &Request) -> (Answer, bool) {
        let Some(lease) = &self.lease else {
            return (Err(Failure::Missing), false);
        };
        let patch = match request {
            Request::Read => return (Ok(Arc::clone(&self.sent)), false),
            Request::Patch(patch) => patch,
        };
        if let Err(why) = validate(&patch["spec"]) {
            let why = format!("the API server answered 422: {why}");
            return (Err(Failure::Other(why)), false);
        }
        let same = |field: &str| patch["metadata"][field] == lease["metadata"][field];
        let same_version = same("resourceVersion") || self.broken == Broken::NoCompareAndSwap;
        if !same("uid") || !same_version {
            return (Err(Failure::Conflict), false);
        }
        let mut lease = lease.clone();
        merge(&mut lease, patch);
        self.store(lease);
        (Ok(Arc::clone(&self.sent)), true)
    }

    fn store(&mut self, mut lease: Value) {
        self.versions += 1;
        lease["metadata"]["resourceVersion"] = self.versions.to_string().into();
        let json = lease.to_string();
        let event = format!(r#"{{"type":"MODIFIED","object":{json}}}"#);
        self.sent = Arc::new(Sent {
            answer: LeaseObject::parse(json.as_bytes()),
            event: lease_client::changed(event.as_bytes()),
            json,
        });
        self.lease = Some(lease);
    }
}

/// What the API server refuses to store from a client of its typed API.
fn validate(spec: &Value) -> Result<(), String> {
    let int32 = |field: &str, least: i64| match &spec[field] {
        Value::Null => Ok(()),
        value => match value.as_i64() {
            Some(n) if (least..=i32::MAX.into()).contains(&n) => Ok(()),
            _ => Err(format!("{field}: {value}")),
        },
    };
    int32("leaseDurationSeconds", 1)?;
    int32("leaseTransitions", 0)?;
    for field in ["renewTime", "acquireTime"] {
        match &spec[field] {
            Value::Null => {}
            Value::String(time) if is_micro_time(time) => {}
            value => return Err(format!("{field}: {value}")),
        }
    }
    Ok(())
}

/// As Go reads `2006-01-02T15:04:05.000000Z07:00`: a year has four digits.
fn is_micro_time(time: &str) -> bool {
    let shape = time.bytes().map(|byte| match byte {
        b'0'..=b'9' => b'0',
        other => other,
    });
    shape.eq(*b"0000-00-00T00:00:00.000000Z") && time.parse::<jiff::Timestamp>().is_ok()
}
