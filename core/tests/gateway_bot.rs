//! Discord's answer is read for exactly what it says, or refused.

// A test fails by panicking.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use gateway_queue_core::gateway_bot::Limits;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// A good answer that quotes a token.
const GOOD: &str = r#"{"url":"t0ken","shards":1,"session_start_limit":{"total":2,"remaining":3,"reset_after":4,"max_concurrency":5}}"#;

/// The fields that are read.
const FIELDS: [&str; 5] = [
    "shards",
    "total",
    "remaining",
    "reset_after",
    "max_concurrency",
];

/// Values that no field may have.
const WRONG: [&str; 10] = [
    "null",
    "-1",
    "1.5",
    "1e400",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
    r#""1""#,
    "true",
    "{}",
    "[1]",
];

/// JSON of any kind. Lists are shorter than an answer has fields.
fn any_json() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0..5000_u64).prop_map(Value::from),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        number,
        ".{0,9}".prop_map(Value::String),
    ];
    leaf.prop_recursive(3, 12, 2, |inner| {
        let list = vec(inner.clone(), 0..2).prop_map(Value::Array);
        let map = vec((".{0,5}", inner), 0..3)
            .prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>()));
        prop_oneof![list, map]
    })
}

const PLACES: [&str; 8] = [
    "",
    "/url",
    "/shards",
    "/session_start_limit",
    "/session_start_limit/total",
    "/session_start_limit/remaining",
    "/session_start_limit/reset_after",
    "/session_start_limit/max_concurrency",
];

/// A good answer in which a few places have another value, or none.
fn nearly_good() -> impl Strategy<Value = Value> {
    let change = (
        prop::sample::select(&PLACES[..]),
        prop::option::of(any_json()),
    );
    vec(change, 0..3).prop_map(|changes| {
        let mut answer = json!({"url": "wss://x", "shards": 1, "session_start_limit":
            {"total": 1000, "remaining": 999, "reset_after": 14_400_000, "max_concurrency": 16}});
        for (place, value) in changes {
            match value {
                Some(value) => {
                    if let Some(at) = answer.pointer_mut(place) {
                        *at = value;
                    }
                }
                None => {
                    let (parent, key) = place.rsplit_once('/').unwrap_or_default();
                    if let Some(Value::Object(map)) = answer.pointer_mut(parent) {
                        map.remove(key);
                    }
                }
            }
        }
        answer
    })
}

/// The limits in an answer by the rules; none if a required field is missing or wrong.
fn meant(answer: &Value) -> Option<Limits> {
    let limit = answer.get("session_start_limit")?;
    let number = |key: &str| limit.get(key)?.as_u64();
    Some(Limits {
        shards: answer.get("shards")?.as_u64()?.try_into().ok()?,
        total: number("total")?,
        remaining: number("remaining")?,
        reset_after: Duration::from_millis(number("reset_after")?),
        max_concurrency: match number("max_concurrency")? {
            m @ 1..=4096 => Some(m as u32),
            _ => None,
        },
    })
}

proptest! {
    #[test]
    fn no_bytes_cause_a_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _ = Limits::parse(&bytes);
    }

    #[test]
    fn an_answer_is_read_for_exactly_what_it_says(answer in nearly_good()) {
        let parsed = Limits::parse(answer.to_string().as_bytes());
        prop_assert_eq!(parsed.ok(), meant(&answer));
    }
}

#[test]
fn every_wrong_missing_or_repeated_field_is_refused() {
    let deep = "[".repeat(10_000);
    for field in FIELDS {
        let key = format!(r#""{field}":"#);
        let (before, after) = GOOD.split_once(&key).unwrap();
        let with = |value: &str| format!("{before}{key}{value}{}", &after[1..]);
        let wrong = WRONG.into_iter().chain([deep.as_str()]).map(with);
        let missing = GOOD.replace(&key, r#""other":"#);
        let repeated = with(&format!("1,{key}1"));
        for body in wrong.chain([missing, repeated]) {
            let error = Limits::parse(body.as_bytes()).unwrap_err();
            assert!(!error.contains("t0ken"), "{body}: {error}");
        }
    }
}

#[test]
fn any_one_byte_may_be_wrong() {
    for at in 0..GOOD.len() {
        for byte in 0..=u8::MAX {
            let mut body = GOOD.as_bytes().to_vec();
            body[at] = byte;
            let Ok(limits) = Limits::parse(&body) else {
                continue;
            };
            let text = String::from_utf8_lossy(&body);
            let answer: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(Some(limits), meant(&answer), "{text}");
        }
    }
}
