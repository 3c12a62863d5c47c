//! The body of Discord's response to `GET /gateway/bot`.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

/// The maximum number of buckets, in one process and from Discord.
pub const MAX_BUCKETS: u32 = 4096;

/// The limits of one bot, as Discord reported them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The number of shards that Discord recommends.
    pub shards: u32,
    /// The number of session starts of a whole window.
    pub total: u64,
    /// The number of session starts left in the open window.
    pub remaining: u64,
    /// The time until the window ends; zero if none is open.
    pub reset_after: Duration,
    /// The number of buckets; none if Discord reported a number that is not 1 to [`MAX_BUCKETS`].
    pub max_concurrency: Option<u32>,
}

#[derive(Deserialize)]
struct GatewayBot<'a> {
    shards: u32,
    #[serde(borrow)]
    session_start_limit: &'a RawValue,
}

#[derive(Deserialize)]
struct SessionStartLimit {
    total: u64,
    remaining: u64,
    /// In milliseconds.
    reset_after: u64,
    max_concurrency: u64,
}

impl Limits {
    /// Reads the body of a response.
    ///
    /// # Errors
    ///
    /// A message that says what is wrong. It does not quote the body, which may contain the
    /// request with the token.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let GatewayBot {
            shards,
            session_start_limit: limit,
        } = object(body)?;
        let limit: SessionStartLimit = object(limit.get().as_bytes())?;
        Ok(Self {
            shards,
            total: limit.total,
            remaining: limit.remaining,
            reset_after: Duration::from_millis(limit.reset_after),
            max_concurrency: u32::try_from(limit.max_concurrency)
                .ok()
                .filter(|m| (1..=MAX_BUCKETS).contains(m)),
        })
    }
}

/// Reads a JSON object: serde alone would accept a list for a struct, too.
fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, String> {
    if !json.trim_ascii_start().starts_with(b"{") {
        return Err("the response is not from Discord (no JSON object)".to_owned());
    }
    serde_json::from_slice(json).map_err(|error| {
        let (kind, line, column) = (error.classify(), error.line(), error.column());
        format!("the response is not from Discord ({kind:?} at line {line}, column {column})")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_read() {
        let body = br#"{"url":"wss://x","shards":9,"session_start_limit":
            {"total":1000,"remaining":999,"reset_after":14400000,"max_concurrency":16},"new":{}}"#;
        let limits = Limits::parse(body).unwrap();
        assert_eq!(limits.reset_after, Duration::from_secs(4 * 3600));
        assert_eq!(
            (limits.shards, limits.total, limits.remaining),
            (9, 1000, 999)
        );
        assert_eq!(limits.max_concurrency, Some(16));
    }

    #[test]
    fn anything_else_is_refused() {
        for body in [
            "",
            "<html>",
            "[]",
            "[3,[1000,999,60000,1]]",
            r#"{"shards":3,"session_start_limit":[1000,999,60000,1]}"#,
            r#"{"url":"wss://x"}"#,
            r#"{"shards":1,"session_start_limit":{"total":1,"remaining":-1,"reset_after":0,"max_concurrency":1}}"#,
            r#"{"shards":1,"session_start_limit":{"total":1,"remaining":"1","reset_after":0,"max_concurrency":1}}"#,
            r#"{"shards":1,"session_start_limit":{"total":1,"remaining":1,"max_concurrency":1}}"#,
            r#"{"shards":1,"session_start_limit":{"total":1,"remaining":1,"reset_after":1e400,"max_concurrency":1}}"#,
        ] {
            assert!(Limits::parse(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn an_impossible_concurrency_is_not_used() {
        for m in ["0", "4097", "18446744073709551615"] {
            let body = format!(
                r#"{{"shards":1,"session_start_limit":{{"total":1,"remaining":1,"reset_after":1,"max_concurrency":{m}}}}}"#
            );
            assert_eq!(
                Limits::parse(body.as_bytes()).unwrap().max_concurrency,
                None
            );
        }
    }
}
