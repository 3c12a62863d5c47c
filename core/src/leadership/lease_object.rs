//! The Lease as JSON: what is read from it, and the patches that are written to it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

pub use crate::leadership::election::Failure;
use crate::leadership::election::{Lease, Write};
use crate::lease_state::{
    HANDOVER, Handover, HandoverRecord, LEADER_ADDRESS, TOKEN_FINGERPRINT, Unreachable, obsolete,
};

/// `leaseTransitions` is an int32, and the API server refuses a greater number.
const MAX_TRANSITIONS: u64 = i32::MAX as u64;

/// A Lease with all its annotations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseObject {
    /// The part that the election uses.
    pub lease: Lease,
    /// How often the holder changed.
    pub transitions: u64,
    /// When it was last renewed, by the wall clock of the holder.
    pub renewed: Option<Timestamp>,
    /// All annotations; the lease state is among them.
    pub annotations: BTreeMap<String, String>,
}

impl LeaseObject {
    /// Returns whether the Lease was taken or renewed since it was `before`. Wall clocks are not
    /// compared: any other time is a renewal.
    pub fn is_renewal_after(&self, before: &Self) -> bool {
        let renewed = |record: &Self| (record.lease.holder.clone(), record.renewed);
        let is_same = self.lease.uid == before.lease.uid;
        is_same && self.lease.holder.is_some() && renewed(self) != renewed(before)
    }

    /// Adds the removal of obsolete reports to a patch of `holder`.
    pub fn remove_obsolete_reports(&self, patch: &mut Value, holder: &str) {
        if let Some(annotations) = patch["metadata"]["annotations"].as_object_mut() {
            let obsolete = obsolete(&self.annotations, holder).into_iter();
            annotations.extend(obsolete.map(|key| (key, Value::Null)));
        }
    }

    /// Reads a Lease from JSON. Returns none without the parts that every decision
    /// depends on: UID, version and holder. Any other field that cannot be read counts as absent,
    /// which always means the longer wait.
    pub fn parse(json: &[u8]) -> Option<Self> {
        let lease: Value = serde_json::from_slice(json).ok()?;
        let (metadata, spec) = (&lease["metadata"], &lease["spec"]);
        if !spec.is_object() && !spec.is_null() {
            return None;
        }
        let holder = match &spec["holderIdentity"] {
            Value::Null => None,
            Value::String(holder) => Some(holder.clone()).filter(|holder| !holder.is_empty()),
            _ => return None,
        };
        // An empty identifier would make a write unconditional.
        let identifier = |field: &str| {
            let value = metadata[field].as_str()?;
            Some(value.to_owned()).filter(|value| !value.is_empty())
        };
        let text =
            |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
        let annotations = metadata["annotations"].as_object();
        let annotations: BTreeMap<String, String> =
            annotations.into_iter().flatten().filter_map(text).collect();
        let handover = annotations.get(HANDOVER);
        let renewed = spec["renewTime"].as_str();
        Some(Self {
            lease: Lease {
                uid: identifier("uid")?,
                version: identifier("resourceVersion")?,
                holder,
                duration: spec["leaseDurationSeconds"]
                    .as_u64()
                    .map(Duration::from_secs),
                handover: handover.and_then(|text| HandoverRecord::read(text)),
                address: annotations.get(LEADER_ADDRESS).cloned(),
            },
            transitions: spec["leaseTransitions"].as_u64().unwrap_or(0),
            renewed: renewed.and_then(|time| time.parse().ok()),
            annotations,
        })
    }

    /// Returns the patch that makes `holder` the holder.
    pub fn take(
        &self,
        write: &Write,
        holder: &str,
        address: &str,
        duration: Duration,
        now: Timestamp,
    ) -> Value {
        // The published state is older than this term. If this leader never renews, its successor
        // must not use it.
        let annotations = json!({HANDOVER: null, LEADER_ADDRESS: address, TOKEN_FINGERPRINT: null});
        let spec = json!({
            "holderIdentity": holder,
            "leaseDurationSeconds": duration.as_secs(),
            "leaseTransitions": self.transitions.saturating_add(1).min(MAX_TRANSITIONS),
            "acquireTime": micros(now),
            "renewTime": micros(now),
        });
        patch(write, annotations, spec)
    }
}

/// Returns the patch that renews the Lease, with these annotations. It restores what another
/// client may have changed.
pub fn renew(
    write: &Write,
    annotations: &BTreeMap<&'static str, Option<String>>,
    address: &str,
    duration: Duration,
    now: Timestamp,
) -> Value {
    let mut annotations = json!(annotations);
    annotations[LEADER_ADDRESS] = address.into();
    let spec = json!({
        "leaseDurationSeconds": duration.as_secs(),
        "renewTime": micros(now),
    });
    patch(write, annotations, spec)
}

/// Returns the patch that releases the Lease.
pub fn release(write: &Write, handover: Handover, now: Timestamp) -> Value {
    let record = HandoverRecord::Released(handover).write();
    let annotations = json!({HANDOVER: record, LEADER_ADDRESS: null});
    patch(
        write,
        annotations,
        json!({"holderIdentity": "", "renewTime": micros(now)}),
    )
}

/// Returns the patch that writes the report of `pod` to the Lease, or removes it. The API server
/// refuses it if the Lease has changed since the renewal: a late report would delay a takeover.
pub fn report(uid: &str, version: &str, pod: &str, report: Option<&Unreachable>) -> Value {
    let annotations = json!({Unreachable::key(pod): report.map(Unreachable::write)});
    json!({"metadata": {"uid": uid, "resourceVersion": version, "annotations": annotations}})
}

/// Returns a patch that the API server refuses if the Lease has another UID or version by then.
fn patch(write: &Write, annotations: Value, spec: Value) -> Value {
    json!({
        "metadata": {
            "uid": write.uid,
            "resourceVersion": write.version,
            "annotations": annotations,
        },
        "spec": spec,
    })
}

/// Returns the time as a Kubernetes MicroTime, which has no signed years.
fn micros(time: Timestamp) -> String {
    let time = time.max(Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use crate::testing::lease::merge;

    use super::*;
    use crate::leadership::election::Kind;

    fn write(kind: Kind) -> Write {
        Write {
            uid: "u".to_owned(),
            version: "7".to_owned(),
            kind,
        }
    }

    fn parse(stored: &Value) -> LeaseObject {
        LeaseObject::parse(stored.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let now: Timestamp = "2026-11-24T03:04:05.000006789Z".parse().unwrap();
        let mut stored = json!({"metadata": {"uid": "u", "resourceVersion": "7",
            "annotations": {HANDOVER: HandoverRecord::NeverLed.write(), TOKEN_FINGERPRINT: "0badcafe", "other": "stays"}}});
        let new = parse(&stored);
        assert_eq!(new.lease.handover, Some(HandoverRecord::NeverLed));
        assert_eq!((new.lease.holder, new.lease.duration), (None, None));

        let fifteen = Duration::from_secs(15);
        let (address, take) = ("10.0.0.1:9091", write(Kind::Take("me".to_owned())));
        let taking = parse(&stored).take(&take, "me", address, fifteen, now);
        merge(&mut stored, &taking);
        let taken = parse(&stored);
        assert_eq!(taken.lease.holder.as_deref(), Some("me"));
        assert_eq!(taken.lease.duration, Some(fifteen));
        assert_eq!(taken.lease.address.as_deref(), Some(address));
        assert_eq!((taken.lease.handover, taken.transitions), (None, 1));
        assert_eq!(taken.annotations.get(TOKEN_FINGERPRINT), None);
        assert!(taken.annotations.contains_key("other"));
        assert_eq!(stored["spec"]["renewTime"], "2026-11-24T03:04:05.000006Z");

        let annotations = BTreeMap::from([("a", Some("b".to_owned())), ("other", None)]);
        let renewing = renew(&write(Kind::Renew), &annotations, address, fifteen, now);
        merge(&mut stored, &renewing);
        let renewed = parse(&stored);
        assert_eq!(renewed.annotations.get("a").map(String::as_str), Some("b"));
        assert_eq!(renewed.annotations.get("other"), None);
        assert_eq!(renewed.lease.holder.as_deref(), Some("me"));

        let handover = Handover {
            lease: "u".to_owned(),
            waits: vec![Duration::from_millis(3)],
            spacing: Duration::from_secs(5),
            uncounted: Some(1),
        };
        let releasing = release(&write(Kind::Release), handover.clone(), now);
        merge(&mut stored, &releasing);
        let released = parse(&stored).lease;
        assert_eq!(released.handover, Some(HandoverRecord::Released(handover)));
        assert_eq!((released.holder, released.address), (None, None));
    }

    #[test]
    fn a_report_is_added_and_removed_and_another_lease_is_not_a_renewal() {
        let mut stored = json!({"metadata": {"uid": "u", "resourceVersion": "7"},
            "spec": {"holderIdentity": "a_1", "renewTime": "2026-11-24T03:04:05.000006Z"}});
        let before = parse(&stored);
        let unreachable = Unreachable {
            leader: "a_1".to_owned(),
            address: ([10, 0, 0, 1], 9091).into(),
            since: Timestamp::UNIX_EPOCH,
        };
        merge(&mut stored, &report("u", "7", "p", Some(&unreachable)));
        let key = Unreachable::key("p");
        assert_eq!(parse(&stored).annotations[&key], unreachable.write());
        merge(&mut stored, &report("u", "7", "p", None));
        assert_eq!(parse(&stored), before);
        stored["spec"]["renewTime"] = json!("2026-11-24T03:04:10.000006Z");
        assert!(parse(&stored).is_renewal_after(&before));
        stored["metadata"]["uid"] = json!("v");
        assert!(!parse(&stored).is_renewal_after(&before));
    }

    #[test]
    fn anything_else_is_not_a_lease() {
        for text in ["", "{}", "[]", r#"{"metadata":{"uid":"u"}}"#, "null"] {
            assert!(LeaseObject::parse(text.as_bytes()).is_none(), "{text}");
        }
    }
}
