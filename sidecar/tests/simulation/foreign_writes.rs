//! Writes to the Lease that no queue makes.
//!
//! They forge nothing that a queue has to trust: no handover and no shorter duration. See
//! the assumptions in docs/leadership.md.

use fastrand::Rng;
use serde_json::{Value, json};

/// The earliest and latest times, and formats that Kubernetes does not write.
const TIMES: [&str; 15] = [
    "9999-12-30T21:58:00.000000Z",
    "9999-12-31T23:59:59.999999Z",
    "9999-12-30T22:00:00Z",
    "-009999-01-02T01:59:59Z",
    "0000-01-01T00:00:00.000000Z",
    "0001-01-01T00:00:00Z",
    "1970-01-01T00:00:00.000000Z",
    "+010000-01-01T00:00:00Z",
    "2026-11-24 03:04:05.000006 +0000 UTC",
    "Tue, 24 Nov 2026 03:04:05 GMT",
    "2026-11-24T03:04:05.000006+14:00",
    "1764000000",
    "yesterday",
    "2026-02-30T00:00:00Z",
    "",
];

const TEXTS: [&str; 14] = [
    "",
    " ",
    "null",
    "-1",
    "0",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "1e400",
    "NaN",
    "\u{0}",
    "uid-1",
    "uid-1 -1 5000 1,2",
    "[10.0.0.1]:99999",
];

const ANNOTATIONS: [&str; 14] = [
    "handover",
    "token-fingerprint",
    "leader-address",
    "holder",
    "token-state",
    "blocked-by",
    "last-error",
    "max-concurrency",
    "recommended-shards",
    "session-starts-total",
    "session-starts-remaining",
    "session-starts-reset",
    "invalid-session-shards",
    "crash-looping-shards",
];

/// Draws a write, as a merge patch.
pub(crate) fn patch(dice: &mut Rng) -> Value {
    match dice.u8(0..8) {
        0 | 1 => json!({"spec": {"renewTime": time(dice)}}),
        2 => json!({"spec": {"leaseTransitions": number(dice)}}),
        3 => json!({"spec": {"leaseDurationSeconds": number(dice)}}),
        4 => json!({"spec": {"holderIdentity": text(dice), "acquireTime": time(dice)}}),
        5 | 6 => {
            let key = ANNOTATIONS[dice.usize(..ANNOTATIONS.len())];
            json!({"metadata": {"annotations": {format!("gatewayqueue.dev/{key}"): text(dice)}}})
        }
        _ => match dice.u8(0..3) {
            0 => json!({"spec": null}),
            1 => json!({"metadata": {"annotations": null}}),
            _ => json!({"spec": {"renewTime": time(dice), "leaseTransitions": number(dice),
                "strategy": {}, "preferredHolder": 7}}),
        },
    }
}

fn time(dice: &mut Rng) -> Value {
    match dice.u8(0..6) {
        0 => number(dice),
        _ => TIMES[dice.usize(..TIMES.len())].into(),
    }
}

fn number(dice: &mut Rng) -> Value {
    match dice.u8(0..11) {
        0 => Value::Null,
        1 => 0.into(),
        2 => (-1).into(),
        3 => i32::MAX.into(),
        4 => u32::MAX.into(),
        5 => i64::MAX.into(),
        6 => i64::MIN.into(),
        7 => u64::MAX.into(),
        8 => 1e300.into(),
        9 => true.into(),
        _ => TEXTS[dice.usize(..TEXTS.len())].into(),
    }
}

fn text(dice: &mut Rng) -> Value {
    match dice.u8(0..6) {
        0 => Value::Null,
        1 => "x".repeat(dice.usize(1..2000)).into(),
        _ => TEXTS[dice.usize(..TEXTS.len())].into(),
    }
}
