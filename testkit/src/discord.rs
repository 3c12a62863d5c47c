//! A fake of Discord's REST API: a [`ScriptedServer`] that knows what Discord answers.

use crate::scripted_server::{ScriptedServer, response};

/// Returns the body of an answer to `GET /gateway/bot`.
pub fn limits(max_concurrency: u32, remaining: u64, reset_after_ms: u64) -> String {
    format!(
        r#"{{"url":"wss://x","shards":3,"session_start_limit":{{"total":1000,"remaining":{remaining},"reset_after":{reset_after_ms},"max_concurrency":{max_concurrency}}}}}"#
    )
}

/// Returns a whole answer to `GET /gateway/bot`.
pub fn limits_response(max_concurrency: u32, remaining: u64, reset_after_ms: u64) -> String {
    response(
        "200 OK",
        &limits(max_concurrency, remaining, reset_after_ms),
    )
}

impl ScriptedServer {
    /// Starts a fake Discord that reports these limits.
    pub fn reporting(max_concurrency: u32, remaining: u64, reset_after_ms: u64) -> Self {
        Self::saying(limits_response(max_concurrency, remaining, reset_after_ms))
    }

    /// Reports these limits from now on.
    pub fn report(&self, max_concurrency: u32, remaining: u64, reset_after_ms: u64) {
        self.say(limits_response(max_concurrency, remaining, reset_after_ms));
    }

    /// Returns the base URL of the API, as `DISCORD_API` names it.
    pub fn api(&self) -> String {
        format!("http://{}/api/v10", self.address())
    }
}
