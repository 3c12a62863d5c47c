//! Leases: as queues write them, and with values that no queue writes.

use gateway_queue_core::lease_state::{HANDOVER, TOKEN_FINGERPRINT};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A Lease whose leader renewed it a moment ago.
pub(crate) fn sound() -> Value {
    let held = json!({"gatewayqueue.dev/leader-address": "10.0.0.2:9091", TOKEN_FINGERPRINT: "0badcafe",
        "gatewayqueue.dev/holder": "my-bot-b", "gatewayqueue.dev/token-state": "accepted",
        "gatewayqueue.dev/max-concurrency": "2", "gatewayqueue.dev/recommended-shards": "4",
        "gatewayqueue.dev/session-starts-total": "1000",
        "gatewayqueue.dev/session-starts-remaining": "900"});
    json!({
        "metadata": {"uid": "u", "resourceVersion": "7", "annotations": held},
        "spec": {
            "holderIdentity": "my-bot-b_02-1",
            "leaseDurationSeconds": 15,
            "leaseTransitions": 3,
            "acquireTime": "2026-11-27T03:00:00.000000Z",
            "renewTime": "2026-11-27T03:04:00.000000Z",
        },
    })
}

/// The record of a leader that released this Lease, with times in milliseconds.
pub(crate) fn handover(uncounted: u64, spacing: u64, waits: &[u64]) -> String {
    let record = json!({"last_leader": "released", "lease": "u", "waits_ms": waits,
        "spacing_ms": spacing, "uncounted": uncounted});
    record.to_string()
}

/// The Lease, released with this record.
pub(crate) fn released_with(record: &str) -> Value {
    let mut lease = sound();
    lease["spec"]["holderIdentity"] = json!("");
    lease["metadata"]["annotations"][HANDOVER] = json!(record);
    lease
}

/// Values of a field that no queue writes; none removes the field.
pub(crate) fn absurd() -> Vec<Option<Value>> {
    let values = json!([
        // Times
        "9999-12-30T21:58:00.000000Z", "9999-12-30T22:00:00.999999Z", "-009999-01-02T01:59:59Z",
        "0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z",
        "2026-11-27T03:59:60Z", "2026-11-27 03:04:05.123456+00:00",
        "2026-11-27T03:04:05.123456789123+14:00", "Fri Nov 27 03:04:05 2026", "27.11.2026 03:04",
        "/Date(1795748645000)/", "1795748645", "20261127T030405Z", "2026-W48-5",
        // Numbers
        0, 1, -1, 15.5, -0.0, 1e308, i32::MAX, i32::MIN, u32::MAX, i64::MAX, i64::MIN, u64::MAX,
        // Others
        null, true, "", " ", "15", [], {}, [15], {"a": 15}, "18446744073709551615", "-1", "\u{0}",
    ]);
    let values = values.as_array().unwrap();
    values.iter().cloned().map(Some).chain([None]).collect()
}

/// Sets the value at the path, or removes it.
pub(crate) fn with(mut lease: Value, path: &[&str], value: Option<Value>) -> Value {
    let (last, folders) = path.split_last().unwrap();
    let folder = folders
        .iter()
        .fold(&mut lease, |value, key| &mut value[*key]);
    match value {
        Some(value) => folder[*last] = value,
        None => drop(folder.as_object_mut().unwrap().remove(*last)),
    }
    lease
}

/// The paths of all fields. The first three are folders of the others.
pub(crate) const PATHS: [&[&str]; 23] = [
    &["metadata"],
    &["spec"],
    &["metadata", "annotations"],
    &["metadata", "uid"],
    &["metadata", "resourceVersion"],
    &["spec", "holderIdentity"],
    &["spec", "leaseDurationSeconds"],
    &["spec", "leaseTransitions"],
    &["spec", "acquireTime"],
    &["spec", "renewTime"],
    &["metadata", "annotations", HANDOVER],
    &["metadata", "annotations", TOKEN_FINGERPRINT],
    &["metadata", "annotations", "gatewayqueue.dev/leader-address"],
    &["metadata", "annotations", "gatewayqueue.dev/holder"],
    &["metadata", "annotations", "gatewayqueue.dev/token-state"],
    &["metadata", "annotations", "gatewayqueue.dev/blocked-by"],
    &[
        "metadata",
        "annotations",
        "gatewayqueue.dev/max-concurrency",
    ],
    &[
        "metadata",
        "annotations",
        "gatewayqueue.dev/recommended-shards",
    ],
    &[
        "metadata",
        "annotations",
        "gatewayqueue.dev/session-starts-total",
    ],
    &[
        "metadata",
        "annotations",
        "gatewayqueue.dev/session-starts-remaining",
    ],
    &[
        "metadata",
        "annotations",
        "gatewayqueue.dev/session-starts-reset",
    ],
    &[
        "metadata",
        "annotations",
        "gatewayqueue.dev/invalid-session-shards",
    ],
    &[
        "metadata",
        "annotations",
        "gatewayqueue.dev/crash-looping-shards",
    ],
];

/// A released Lease that was last renewed at this time.
pub(crate) fn renewed_at(time: &str) -> Value {
    let lease = released_with(&handover(0, 5000, &[0, 0]));
    with(lease, &["spec", "renewTime"], Some(json!(time)))
}

pub(crate) fn any_value() -> impl Strategy<Value = Option<Value>> {
    let text = prop_oneof![
        any::<String>(),
        "[0-9]{1,20}",
        "-?[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z",
        (any::<u64>(), any::<u64>(), any::<[u64; 2]>())
            .prop_map(|(uncounted, spacing, waits)| handover(uncounted, spacing, &waits)),
        (
            0..2_u64,
            0..9999_u64,
            proptest::collection::vec(0..9999_u64, 0..4)
        )
            .prop_map(|(uncounted, spacing, waits)| handover(uncounted, spacing, &waits)),
    ];
    prop_oneof![
        proptest::sample::select(absurd()),
        any::<i64>().prop_map(|n| Some(json!(n))),
        any::<u64>().prop_map(|n| Some(json!(n))),
        text.prop_map(|text| Some(json!(text))),
    ]
}
