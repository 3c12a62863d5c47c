//! The annotations that a leader writes on the Lease: their keys and values.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;

use crate::names::named;

/// The annotation of a [`HandoverRecord`](super::HandoverRecord); absent while there is a leader.
pub const HANDOVER: &str = "gatewayqueue.dev/handover";

/// The annotation with a hash of the token: the published session starts belong to one bot. The
/// token cannot be derived from it.
pub const TOKEN_FINGERPRINT: &str = "gatewayqueue.dev/token-fingerprint";

/// The annotation with the leader's address for forwarded requests, `IP:PORT`.
pub const LEADER_ADDRESS: &str = "gatewayqueue.dev/leader-address";

const HOLDER: &str = "gatewayqueue.dev/holder";
const TOKEN: &str = "gatewayqueue.dev/token-state";
const BLOCKED_BY: &str = "gatewayqueue.dev/blocked-by";
const LAST_ERROR: &str = "gatewayqueue.dev/last-error";
const MAX_CONCURRENCY: &str = "gatewayqueue.dev/max-concurrency";
const RECOMMENDED_SHARDS: &str = "gatewayqueue.dev/recommended-shards";
const STARTS_TOTAL: &str = "gatewayqueue.dev/session-starts-total";
const STARTS_REMAINING: &str = "gatewayqueue.dev/session-starts-remaining";
const STARTS_RESET: &str = "gatewayqueue.dev/session-starts-reset";
const INVALID_SESSION_SHARDS: &str = "gatewayqueue.dev/invalid-session-shards";
const CRASH_LOOPING_SHARDS: &str = "gatewayqueue.dev/crash-looping-shards";

/// The maximum number of shards in each list of an entry: the whole object must stay small.
pub const MAX_LISTED_SHARDS: usize = 16;

/// The longest error that is written, in bytes: the whole object must stay small.
const MAX_LAST_ERROR_BYTES: usize = 512;

named! {
    /// What is known of the bot's token, never the token itself.
    pub enum TokenState {
        /// The queue runs without a token: no session starts are counted.
        None = "none",
        /// A token file is configured, but it is absent, empty or unreadable.
        Missing = "missing",
        /// There is a token, and Discord has not responded to it yet.
        Unchecked = "unchecked",
        /// Discord answered with the limits of this token.
        Accepted = "accepted",
        /// Discord answered 401.
        Rejected = "rejected",
    }
}

named! {
    /// Why nothing is granted.
    pub enum BlockedBy {
        /// A token file is configured, but it is absent, empty or unreadable.
        TokenMissing = "token_missing",
        /// Discord answered 401.
        TokenRejected = "token_rejected",
        /// Discord has not reported the limits yet.
        SessionStartsUnknown = "session_starts_unknown",
        /// No session start is left above the reserve.
        SessionStartsExhausted = "session_starts_exhausted",
    }
}

/// The session starts of the bot when they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionStarts {
    /// The number of session starts of a whole window.
    pub total: u64,
    /// The number of session starts left, including the reserve.
    pub remaining: u64,
    /// When Discord resets the limit; none if no window is open.
    pub reset_time: Option<Timestamp>,
}

/// The state of the queue that a leader publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The pod that wrote the entry.
    pub holder: String,
    /// The state of the token.
    pub token: TokenState,
    /// Why nothing is granted; none if shards are granted.
    pub blocked_by: Option<BlockedBy>,
    /// The last error of the token or of a fetch, for people. At most 512 bytes are written.
    pub last_error: Option<String>,
    /// The number of buckets; none while it is unknown.
    pub max_concurrency: Option<u32>,
    /// The number of shards that Discord recommends.
    pub recommended_shards: Option<u32>,
    /// The session starts; none without a token, or while they are unknown.
    pub session_starts: Option<SessionStarts>,
    /// The first [`MAX_LISTED_SHARDS`] shards with more than 3 invalid sessions within ten minutes,
    /// in ascending order.
    pub invalid_session_shards: Vec<u32>,
    /// The first [`MAX_LISTED_SHARDS`] shards that are held because they were granted too often, or
    /// were a moment ago, in ascending order.
    pub crash_looping_shards: Vec<u32>,
}

impl Entry {
    /// Returns the entry of a queue that does not know anything yet.
    pub fn new(holder: &str) -> Self {
        Self {
            holder: holder.to_owned(),
            token: TokenState::Unchecked,
            blocked_by: Some(BlockedBy::SessionStartsUnknown),
            last_error: None,
            max_concurrency: None,
            recommended_shards: None,
            session_starts: None,
            invalid_session_shards: Vec::new(),
            crash_looping_shards: Vec::new(),
        }
    }

    /// Returns whether anything has changed but the session starts left, which change with each
    /// grant.
    pub fn has_changed_since(&self, before: &Self) -> bool {
        let without_countdown = |entry: &Self| {
            let mut entry = entry.clone();
            if let Some(starts) = &mut entry.session_starts {
                starts.remaining = 0;
            }
            entry
        };
        without_countdown(self) != without_countdown(before)
    }

    /// Returns the annotations of this entry. A key without a value is `None`, so that a merge
    /// patch removes the value of an earlier entry.
    pub fn annotations(&self) -> BTreeMap<&'static str, Option<String>> {
        let starts = self.session_starts;
        BTreeMap::from([
            (HOLDER, Some(self.holder.clone())),
            (TOKEN, Some(self.token.as_str().to_owned())),
            (
                BLOCKED_BY,
                self.blocked_by
                    .map(|blocked_by| blocked_by.as_str().to_owned()),
            ),
            (LAST_ERROR, self.last_error.as_deref().map(clip)),
            (MAX_CONCURRENCY, self.max_concurrency.map(text)),
            (RECOMMENDED_SHARDS, self.recommended_shards.map(text)),
            (STARTS_TOTAL, starts.map(|s| text(s.total))),
            (STARTS_REMAINING, starts.map(|s| text(s.remaining))),
            (STARTS_RESET, starts.and_then(|s| s.reset_time).map(text)),
            (INVALID_SESSION_SHARDS, list(&self.invalid_session_shards)),
            (CRASH_LOOPING_SHARDS, list(&self.crash_looping_shards)),
        ])
    }

    /// Reads what [`Entry::annotations`] returns; none if no queue has written it yet. A value that
    /// cannot be read, from a newer version or another client, counts as unknown: grants stay
    /// blocked.
    pub fn read(annotations: &BTreeMap<String, String>) -> Option<Self> {
        let get = |key| annotations.get(key).map(String::as_str);
        let number = |key| get(key).and_then(|v| v.parse::<u64>().ok());
        let small = |key| get(key).and_then(|v| v.parse::<u32>().ok());
        let shards = |key| get(key).map(listed).unwrap_or_default();
        Some(Self {
            holder: get(HOLDER)?.to_owned(),
            token: get(TOKEN)
                .and_then(TokenState::parse)
                .unwrap_or(TokenState::Unchecked),
            blocked_by: get(BLOCKED_BY)
                .map(|w| BlockedBy::parse(w).unwrap_or(BlockedBy::SessionStartsUnknown)),
            last_error: get(LAST_ERROR).map(str::to_owned),
            max_concurrency: small(MAX_CONCURRENCY),
            recommended_shards: small(RECOMMENDED_SHARDS),
            session_starts: number(STARTS_TOTAL).zip(number(STARTS_REMAINING)).map(
                |(total, remaining)| SessionStarts {
                    total,
                    remaining,
                    reset_time: get(STARTS_RESET).and_then(|v| v.parse().ok()),
                },
            ),
            invalid_session_shards: shards(INVALID_SESSION_SHARDS),
            crash_looping_shards: shards(CRASH_LOOPING_SHARDS),
        })
    }
}

fn text(value: impl std::fmt::Display) -> String {
    value.to_string()
}

/// Returns the first shards, separated by commas; none if there are none.
fn list(shards: &[u32]) -> Option<String> {
    let first = shards.iter().take(MAX_LISTED_SHARDS).map(text);
    let first: Vec<_> = first.collect();
    (!first.is_empty()).then(|| first.join(","))
}

/// Reads what [`list`] returns. What is no shard is ignored.
fn listed(text: &str) -> Vec<u32> {
    let shards = text.split(',').take(MAX_LISTED_SHARDS);
    shards.filter_map(|shard| shard.parse().ok()).collect()
}

/// Returns one line of at most [`MAX_LAST_ERROR_BYTES`] bytes, cut at a character.
fn clip(text: &str) -> String {
    let mut clipped = String::new();
    for c in text.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if clipped.len() + c.len_utf8() > MAX_LAST_ERROR_BYTES {
            break;
        }
        let _ = clipped.write_char(c);
    }
    clipped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Entry {
        Entry {
            holder: "my-bot-7d9f".to_owned(),
            token: TokenState::Accepted,
            blocked_by: Some(BlockedBy::SessionStartsExhausted),
            last_error: Some("Discord answered 503".to_owned()),
            max_concurrency: Some(16),
            recommended_shards: Some(128),
            session_starts: Some(SessionStarts {
                total: 1000,
                remaining: 0,
                reset_time: Some("2026-11-23T12:00:00Z".parse().unwrap()),
            }),
            invalid_session_shards: vec![3, 7],
            crash_looping_shards: vec![7],
        }
    }

    fn stored(entry: &Entry) -> BTreeMap<String, String> {
        entry
            .annotations()
            .into_iter()
            .filter_map(|(k, v)| Some((k.to_owned(), v?)))
            .collect()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let sparse = Entry {
            token: TokenState::Missing,
            blocked_by: None,
            ..Entry::new("p")
        };
        for entry in [full(), sparse] {
            assert_eq!(Entry::read(&stored(&entry)), Some(entry));
        }
        assert_eq!(Entry::read(&BTreeMap::new()), None);
    }

    #[test]
    fn an_entry_names_every_key_so_that_old_values_are_removed() {
        let mut sparse = full();
        sparse.blocked_by = None;
        sparse.session_starts = None;
        sparse.crash_looping_shards.clear();
        assert!(sparse.annotations().keys().eq(full().annotations().keys()));
        assert_eq!(sparse.annotations()[BLOCKED_BY], None);
        assert_eq!(sparse.annotations()[CRASH_LOOPING_SHARDS], None);
    }

    #[test]
    fn a_list_has_the_first_shards_and_is_read_without_what_is_no_shard() {
        let mut entry = full();
        entry.crash_looping_shards = (0..1000).collect();
        let mut annotations = stored(&entry);
        let first = "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15";
        assert_eq!(annotations[CRASH_LOOPING_SHARDS], first);
        assert_eq!(annotations[INVALID_SESSION_SHARDS], "3,7");
        let garbage = "4,,x,-1, 5,4294967295,4294967296";
        annotations.insert(CRASH_LOOPING_SHARDS.to_owned(), garbage.to_owned());
        let read = Entry::read(&annotations).unwrap();
        assert_eq!(read.crash_looping_shards, [4, u32::MAX]);
    }

    #[test]
    fn anything_but_the_session_starts_left_is_a_change() {
        let (before, mut after) = (full(), full());
        after.session_starts.as_mut().unwrap().remaining = 7;
        assert!(!after.has_changed_since(&before));
        after.blocked_by = None;
        assert!(after.has_changed_since(&before));
        let mut after = full();
        after.crash_looping_shards.clear();
        assert!(after.has_changed_since(&before));
    }

    #[test]
    fn an_unknown_reason_of_a_newer_version_still_blocks_grants() {
        let mut annotations = stored(&full());
        annotations.insert(BLOCKED_BY.to_owned(), "moon_phase".to_owned());
        annotations.insert(MAX_CONCURRENCY.to_owned(), "-3".to_owned());
        let read = Entry::read(&annotations).unwrap();
        assert_eq!(read.blocked_by, Some(BlockedBy::SessionStartsUnknown));
        assert_eq!(read.max_concurrency, None);
    }

    #[test]
    fn a_long_error_is_cut_at_a_character_and_kept_on_one_line() {
        let mut entry = full();
        entry.last_error = Some("é\n".repeat(MAX_LAST_ERROR_BYTES));
        let last_error = entry.annotations()[LAST_ERROR].clone().unwrap();
        assert!(
            last_error.len() <= MAX_LAST_ERROR_BYTES && last_error.len() > MAX_LAST_ERROR_BYTES - 4
        );
        assert!(!last_error.contains('\n'));
    }
}
