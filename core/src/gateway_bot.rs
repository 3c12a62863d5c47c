//! The body of Discord's response to `GET /gateway/bot`.

use std::time::Duration;

use serde::Deserialize;
use serde_json::error::Category;
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
        return Err("the response is not from Discord: it is no JSON object".to_owned());
    }
    serde_json::from_slice(json).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let fault = match error.classify() {
            Category::Data => "a field is missing or has another type",
            _ => "it is not valid JSON",
        };
        format!("the response is not from Discord: {fault}, at line {line}, column {column}")
    })
}
