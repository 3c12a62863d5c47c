//! What a leader that stops leaves to the next one: how long each bucket must still wait.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::gateway_bot::MAX_BUCKETS;
use crate::time::millis_rounded_up;

/// The maximum wait and spacing: a spacing is at most two days, and each leader adds to a wait
/// for the drift of its clock.
const MAX_WAIT: Duration = Duration::from_hours(72);

/// The maximum number of uncounted grants, far above those of all buckets in two intervals.
const MAX_UNCOUNTED: u64 = 1_000_000;

/// The annotation of a Lease without a holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandoverRecord {
    /// No leader existed before. Only the operator writes this, to the Lease of a new
    /// GatewayQueue.
    NeverLed,
    /// A leader released the Lease.
    Released(Handover),
}

/// What a leader leaves to the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// The UID of the Lease that this was written to. On another Lease it is a copy, and is
    /// ignored.
    pub lease: String,
    /// For each bucket, how long it must wait after this was sent. If it is empty, all buckets
    /// wait in full; if there are more buckets by then, all wait for the longest of these.
    pub waits: Vec<Duration>,
    /// The time between two grants of one bucket, as the leader kept it.
    pub spacing: Duration,
    /// Grants of the last two intervals, which Discord may not have counted; none if the leader
    /// did not know what its own predecessor granted.
    pub uncounted: Option<u64>,
}

/// The annotation's JSON.
#[derive(Deserialize, Serialize)]
#[serde(tag = "last_leader", rename_all = "snake_case")]
enum Json {
    #[serde(rename = "none")]
    NeverLed,
    Released {
        lease: String,
        waits_ms: Vec<u64>,
        spacing_ms: u64,
        uncounted: Option<u64>,
    },
}

impl HandoverRecord {
    /// Returns the annotation's value. Times are rounded up to milliseconds.
    pub fn write(&self) -> String {
        let json = match self {
            Self::NeverLed => Json::NeverLed,
            Self::Released(handover) => Json::Released {
                lease: handover.lease.clone(),
                waits_ms: handover
                    .waits
                    .iter()
                    .copied()
                    .map(millis_rounded_up)
                    .collect(),
                spacing_ms: millis_rounded_up(handover.spacing),
                uncounted: handover.uncounted,
            },
        };
        // It has no reason to fail; an empty annotation is no record.
        serde_json::to_string(&json).unwrap_or_default()
    }

    /// Reads the annotation's value. Unknown fields are ignored. Returns none for anything but an
    /// object, and for numbers out of bounds; then the Lease is waited out.
    pub fn read(text: &str) -> Option<Self> {
        // serde also reads a struct from a list.
        if !text.trim_start().starts_with('{') {
            return None;
        }
        let Json::Released {
            lease,
            waits_ms,
            spacing_ms,
            uncounted,
        } = serde_json::from_str(text).ok()?
        else {
            return Some(Self::NeverLed);
        };
        let is_in_bounds =
            waits_ms.len() <= MAX_BUCKETS as usize && uncounted.unwrap_or(0) <= MAX_UNCOUNTED;
        let waits: Option<_> = waits_ms.into_iter().map(wait).collect();
        is_in_bounds.then_some(Self::Released(Handover {
            lease,
            waits: waits?,
            spacing: wait(spacing_ms)?,
            uncounted,
        }))
    }
}

fn wait(milliseconds: u64) -> Option<Duration> {
    let wait = Duration::from_millis(milliseconds);
    (wait <= MAX_WAIT).then_some(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn released(waits: &[Duration], uncounted: Option<u64>) -> HandoverRecord {
        HandoverRecord::Released(Handover {
            lease: "0b6c-uid".to_owned(),
            waits: waits.to_vec(),
            spacing: Duration::from_millis(5250),
            uncounted,
        })
    }

    #[test]
    fn a_record_is_read_back_and_times_are_rounded_up() {
        let millis = Duration::from_millis;
        let waits = [millis(0), millis(5250)];
        for (record, json) in [
            (HandoverRecord::NeverLed, r#"{"last_leader":"none"}"#),
            (
                released(&[], None),
                r#"{"last_leader":"released","lease":"0b6c-uid","waits_ms":[],"spacing_ms":5250,"uncounted":null}"#,
            ),
            (
                released(&waits, Some(3)),
                r#"{"last_leader":"released","lease":"0b6c-uid","waits_ms":[0,5250],"spacing_ms":5250,"uncounted":3}"#,
            ),
        ] {
            assert_eq!(record.write(), json);
            assert_eq!(HandoverRecord::read(json), Some(record));
        }
        let odd = released(&[Duration::from_micros(1001)], None).write();
        let rounded = released(&[millis(2)], None);
        assert_eq!(HandoverRecord::read(&odd), Some(rounded));
    }

    #[test]
    fn another_version_may_add_fields_or_omit_optional_ones() {
        let json = r#"{"last_leader":"released","new":[],"lease":"0b6c-uid","waits_ms":[],"spacing_ms":5250}"#;
        assert_eq!(HandoverRecord::read(json), Some(released(&[], None)));
        let json = r#"{"last_leader":"none","new":1}"#;
        assert_eq!(HandoverRecord::read(json), Some(HandoverRecord::NeverLed));
    }

    #[test]
    fn anything_else_is_no_record() {
        for text in [
            "",
            "never-led",
            "null",
            "[]",
            r#"["none"]"#,
            r#"["released","u",[0],5250,null]"#,
            "{}",
            r#"{"last_leader":"None"}"#,
            r#"{"last_leader":"moved"}"#,
            r#"{"last_leader":"released"}"#,
            r#"{"last_leader":"released","lease":"u","spacing_ms":1,"uncounted":0}"#,
            r#"{"last_leader":"released","lease":"u","waits_ms":[1.5],"spacing_ms":1}"#,
            r#"{"last_leader":"released","lease":"u","waits_ms":[-1],"spacing_ms":1}"#,
            r#"{"last_leader":"released","lease":"u","waits_ms":["1"],"spacing_ms":1}"#,
        ] {
            assert_eq!(HandoverRecord::read(text), None, "{text}");
        }
    }
}
