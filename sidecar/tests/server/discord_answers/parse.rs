//! What is read of an answer is exactly what it says.

use std::time::Duration;

use gateway_queue_core::gateway_bot::Limits;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{FIELDS, WRONG, good, with};

/// JSON of any kind; lists are shorter than an answer has fields.
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

/// A good answer in which a few places hold something else, or nothing.
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

/// What the rules make of an answer: none when one field is not as it must be.
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
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _ = Limits::parse(&bytes);
    }

    #[test]
    fn it_takes_an_answer_for_exactly_what_it_says(answer in nearly_good()) {
        let parsed = Limits::parse(answer.to_string().as_bytes());
        prop_assert_eq!(parsed.ok(), meant(&answer));
    }
}

#[test]
fn every_wrong_value_of_every_field_is_refused() {
    let deep = "[".repeat(10_000);
    for field in FIELDS {
        for value in WRONG.into_iter().chain([deep.as_str()]) {
            let body = with(field, value);
            let why = Limits::parse(body.as_bytes()).unwrap_err();
            assert!(!why.contains("t0ken"), "{body}: {why}");
        }
    }
}

#[test]
fn any_one_byte_of_it_may_be_wrong() {
    let good = good().into_bytes();
    for at in 0..good.len() {
        for byte in 0..=u8::MAX {
            let mut body = good.clone();
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
