//! Discord's response is read exactly, or refused.

// A test fails by panicking.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use gateway_queue_core::gateway_bot::{Limits, Unknown};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// A valid response that quotes a token.
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

/// JSON of any kind. A list is shorter than the number of fields.
fn any_json() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0..5000_u64).prop_map(Value::from),
    ];
    let text = ".{0,9}".prop_map(Value::String);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        number,
        text
    ];
    leaf.prop_recursive(3, 12, 2, |inner| {
        let list = vec(inner.clone(), 0..2).prop_map(Value::Array);
        let map = vec((".{0,5}", inner), 0..3)
            .prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>()));
        prop_oneof![list, map]
    })
}

/// The fields of a response, as JSON pointers.
const POINTERS: [&str; 8] = [
    "",
    "/url",
    "/shards",
    "/session_start_limit",
    "/session_start_limit/total",
    "/session_start_limit/remaining",
    "/session_start_limit/reset_after",
    "/session_start_limit/max_concurrency",
];

/// A valid response in which a few fields have another value, or are missing.
fn nearly_good() -> impl Strategy<Value = Value> {
    let change = (
        prop::sample::select(&POINTERS[..]),
        prop::option::of(any_json()),
    );
    vec(change, 0..3).prop_map(|changes| {
        let mut response = json!({"url": "wss://x", "shards": 1, "session_start_limit":
            {"total": 1000, "remaining": 999, "reset_after": 14_400_000, "max_concurrency": 16}});
        for (pointer, value) in changes {
            let (parent, key) = pointer.rsplit_once('/').unwrap_or_default();
            if let Some(value) = value {
                if let Some(field) = response.pointer_mut(pointer) {
                    *field = value;
                }
            } else if let Some(Value::Object(parent)) = response.pointer_mut(parent) {
                parent.remove(key);
            }
        }
        response
    })
}

/// Returns the limits in a response; none if a required field is missing or wrong.
fn expected(response: &Value) -> Option<Limits> {
    let limit = response.get("session_start_limit")?;
    let number = |key: &str| limit.get(key)?.as_u64();
    let url = response.get("url").and_then(Value::as_str);
    Some(Limits {
        url: url.filter(|url| url.starts_with("ws")).map(Into::into),
        shards: response.get("shards")?.as_u64()?.try_into().ok()?,
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
    fn a_response_is_read_exactly(response in nearly_good()) {
        let parsed = Limits::parse(response.to_string().as_bytes());
        prop_assert_eq!(parsed.ok(), expected(&response));
    }
}

#[test]
fn limits_are_written_as_discord_reports_them() {
    let text = r#"{"url":"wss://x?a=\"1\"","shards":9,"session_start_limit":{"total":1000,"remaining":7,"reset_after":1234,"max_concurrency":16}}"#;
    let mut limits = Limits::parse(text.as_bytes()).unwrap();
    assert_eq!(limits.json().unwrap(), text);
    // A client that waits for the reset is not too early.
    limits.reset_after += Duration::from_nanos(1);
    assert!(limits.json().unwrap().contains(r#""reset_after":1235,"#));
    limits.max_concurrency = None;
    assert_eq!(limits.json(), None);
    let unknown = Unknown {
        message: "not \"yet\"".to_owned(),
    };
    assert_eq!(unknown.json(), r#"{"message":"not \"yet\""}"#);
    assert_eq!(Unknown::parse(unknown.json().as_bytes()), Some(unknown));
    assert_eq!(Unknown::parse(text.as_bytes()), None);
}

#[test]
fn only_a_short_websocket_url_is_kept_and_any_other_leaves_the_rest_valid() {
    let url = |json: &str| {
        let body = GOOD.replace(r#""t0ken""#, json);
        let url = Limits::parse(body.as_bytes()).unwrap().url;
        url.as_deref().map(str::to_owned)
    };
    let path = |bytes| format!("wss://x/{}", "p".repeat(bytes));
    for text in [
        "wss://gateway.discord.gg",
        "ws://127.0.0.1:8080/a?b",
        &path(504),
    ] {
        assert_eq!(url(&format!("{text:?}")).as_deref(), Some(text));
    }
    for json in [
        "null",
        "7",
        "{}",
        "\"\"",
        r#""https://x""#,
        r#""gateway.discord.gg""#,
        r#""wss://""#,
        r#""wss://x\n""#,
        r#""wss://x/ y""#,
        r#""wss://\u00e9.example""#,
        &format!("{:?}", path(505)),
    ] {
        assert_eq!(url(json), None, "{json}");
    }
    let without = GOOD.replace(r#""url":"t0ken","#, "");
    assert_eq!(Limits::parse(without.as_bytes()).unwrap().url, None);
}

#[test]
fn anything_but_an_object_is_refused() {
    for body in [
        "",
        "<html>",
        "[]",
        "[3,[1000,999,60000,1]]",
        r#"{"shards":3,"session_start_limit":[1000,999,60000,1]}"#,
        r#"{"url":"wss://x"}"#,
    ] {
        assert!(Limits::parse(body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn an_impossible_concurrency_is_not_used() {
    for m in ["0", "4097", "18446744073709551615"] {
        let body = GOOD.replace(r#"max_concurrency":5"#, &format!(r#"max_concurrency":{m}"#));
        assert_eq!(
            Limits::parse(body.as_bytes()).unwrap().max_concurrency,
            None
        );
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
fn a_response_with_one_wrong_byte_is_read_exactly_or_refused() {
    for at in 0..GOOD.len() {
        for byte in 0..=u8::MAX {
            let mut body = GOOD.as_bytes().to_vec();
            body[at] = byte;
            let Ok(limits) = Limits::parse(&body) else {
                continue;
            };
            let text = String::from_utf8_lossy(&body);
            let response: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(Some(limits), expected(&response), "{text}");
        }
    }
}
