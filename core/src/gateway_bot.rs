//! The body of the response to `GET /gateway/bot`: Discord's, and that of the queue to clients
//! which ask it instead.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use serde_json::value::RawValue;
use url::Url;

use crate::time::millis_rounded_up;

/// The maximum number of buckets, in one process and from Discord.
pub const MAX_BUCKETS: u32 = 4096;

/// The maximum length of the gateway's URL.
const MAX_URL_BYTES: usize = 512;

/// The limits of one bot, as Discord reported them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The URL of the gateway; none if Discord reported none that is a `ws://` or `wss://` URL of
    /// at most 512 bytes. The queue itself does not use it.
    pub url: Option<Arc<str>>,
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
    #[serde(borrow)]
    url: Option<&'a RawValue>,
    shards: u32,
    #[serde(borrow)]
    session_start_limit: &'a RawValue,
}

#[derive(Serialize)]
struct Response<'a> {
    url: &'a str,
    shards: u32,
    session_start_limit: SessionStartLimit,
}

#[derive(Deserialize, Serialize)]
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
            url,
            shards,
            session_start_limit: limit,
        } = object(body)?;
        let limit: SessionStartLimit = object(limit.get().as_bytes())?;
        Ok(Self {
            url: url.and_then(gateway_url),
            shards,
            total: limit.total,
            remaining: limit.remaining,
            reset_after: Duration::from_millis(limit.reset_after),
            max_concurrency: u32::try_from(limit.max_concurrency)
                .ok()
                .filter(|m| (1..=MAX_BUCKETS).contains(m)),
        })
    }

    /// Returns the limits as Discord reports them; none without a URL or a number of buckets.
    pub fn json(&self) -> Option<String> {
        let response = Response {
            url: self.url.as_deref()?,
            shards: self.shards,
            session_start_limit: SessionStartLimit {
                total: self.total,
                remaining: self.remaining,
                reset_after: millis_rounded_up(self.reset_after),
                max_concurrency: self.max_concurrency?.into(),
            },
        };
        serde_json::to_string(&response).ok()
    }
}

/// Why the limits are unknown. Its JSON is like that of Discord's errors.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Unknown {
    /// What is wrong, for people.
    pub message: String,
}

impl Unknown {
    /// Returns the body of the response 503.
    pub fn json(&self) -> String {
        // A string: nothing can fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads what [`Unknown::json`] returns; none if it is anything else.
    pub fn parse(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }
}

/// Returns the URL if it is one of a gateway. It becomes a part of other responses, so its
/// length in JSON is limited, too.
fn gateway_url(json: &RawValue) -> Option<Arc<str>> {
    let text: String = serde_json::from_str(json.get()).ok()?;
    let is_short = text.len() <= MAX_URL_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic());
    let url = Url::parse(&text).ok().filter(|_| is_short)?;
    matches!(url.scheme(), "ws" | "wss").then(|| text.into())
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
