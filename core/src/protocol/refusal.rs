//! What is answered to a client that opted in to more than grants.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::lease_state::BlockedBy;
use crate::protocol::request::Malformed;

/// Why a waiter's turn did not come in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Others are before it, or its bucket's clock runs.
    Waiting,
    /// No session start is left.
    SessionStartsExhausted,
    /// Discord has not said what is left, or there is no token to ask with.
    SessionStartsUnknown,
    /// Discord rejects the token.
    TokenRejected,
    /// Nobody leads at this moment, or nobody who can be reached.
    NoLeader,
}

impl Reason {
    /// For clients, and for the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::SessionStartsExhausted => "session_starts_exhausted",
            Self::SessionStartsUnknown => "session_starts_unknown",
            Self::TokenRejected => "token_rejected",
            Self::NoLeader => "no_leader",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [
            Self::Waiting,
            Self::SessionStartsExhausted,
            Self::SessionStartsUnknown,
            Self::TokenRejected,
            Self::NoLeader,
        ]
        .into_iter()
        .find(|reason| reason.as_str() == word)
    }
}

impl From<Option<BlockedBy>> for Reason {
    fn from(blocked_by: Option<BlockedBy>) -> Self {
        match blocked_by {
            None => Self::Waiting,
            Some(BlockedBy::SessionStartsExhausted) => Self::SessionStartsExhausted,
            Some(BlockedBy::SessionStartsUnknown | BlockedBy::TokenMissing) => {
                Self::SessionStartsUnknown
            }
            Some(BlockedBy::TokenRejected) => Self::TokenRejected,
        }
    }
}

/// Not yet: the place is kept, come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// Where the waiter stood in its bucket: 1 is next. None when nobody knows.
    pub position: Option<usize>,
    /// When to come back. Early enough to find the place still kept.
    pub retry_after: Duration,
}

/// The shortest time for which a place may be kept: `Retry-After` has whole seconds,
/// and half of the time must be left for the way back.
pub const MIN_RESERVATION_TTL: Duration = Duration::from_secs(2);

/// Nobody is told to come back sooner.
const SOONEST_RETRY: Duration = Duration::from_millis(250);

/// When to come back if the turn is `away`, and the place is kept for `kept`: never
/// later than after half of that, in whole seconds either.
pub fn retry_after(away: Duration, kept: Duration) -> Duration {
    let latest = Duration::from_secs(kept.as_secs() / 2);
    away.min(latest).max(SOONEST_RETRY)
}

#[derive(Deserialize, Serialize)]
struct Body<'a> {
    #[serde(borrow)]
    reason: Cow<'a, str>,
    position: Option<usize>,
    retry_after_ms: u64,
}

#[derive(Serialize)]
struct MalformedBody {
    reason: &'static str,
    parameter: &'static str,
    message: &'static str,
}

impl Refusal {
    /// Nobody leads, or this process ends: a place may be kept with a leader that
    /// cannot be reached at the moment, for [`MIN_RESERVATION_TTL`] at least.
    pub const NO_LEADER: Self = Self {
        reason: Reason::NoLeader,
        position: None,
        retry_after: Duration::from_secs(1),
    };

    /// Milliseconds, rounded up: nobody shall come back too early.
    pub fn retry_after_ms(&self) -> u64 {
        u64::try_from(self.retry_after.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }

    /// The `Retry-After` header: seconds, rounded up.
    pub fn retry_after_seconds(&self) -> u64 {
        self.retry_after_ms().div_ceil(1000)
    }

    /// The body of the 429.
    pub fn json(&self) -> String {
        json(&Body {
            reason: self.reason.as_str().into(),
            position: self.position,
            retry_after_ms: self.retry_after_ms(),
        })
    }

    /// Reads what [`Refusal::json`] wrote.
    pub fn parse(json: &[u8]) -> Option<Self> {
        let body: Body = serde_json::from_slice(json).ok()?;
        Some(Self {
            reason: Reason::parse(&body.reason)?,
            position: body.position,
            retry_after: Duration::from_millis(body.retry_after_ms),
        })
    }
}

impl Malformed {
    /// The body of the 400. It does not quote what was sent: that could be a
    /// token.
    pub fn json(self) -> String {
        let (parameter, message) = match self {
            Self::Shard => (
                "shard",
                "shard must be given once, as a whole number from 0 to 4294967295",
            ),
            Self::Wait => (
                "wait",
                "wait must be given once, in whole or decimal seconds from 0 to 3600",
            ),
        };
        json(&MalformedBody {
            reason: "malformed",
            parameter,
            message,
        })
    }
}

fn json(body: &impl Serialize) -> String {
    // Numbers and plain words: there is nothing that could fail.
    serde_json::to_string(body).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How long places may be kept: mostly a few seconds, where rounding counts.
    fn kept() -> impl Strategy<Value = Duration> {
        let longer = prop_oneof![Just(0), 0..8_000_u64, 0..86_398_000_u64];
        longer.prop_map(|longer| MIN_RESERVATION_TTL + Duration::from_millis(longer))
    }

    proptest! {
        #[test]
        fn who_honours_retry_after_is_back_while_its_place_is_kept(
            away in prop_oneof![0..20_000_u64, any::<u64>()],
            kept in kept(),
        ) {
            let told = Refusal {
                retry_after: retry_after(Duration::from_millis(away), kept),
                ..Refusal::NO_LEADER
            };
            for told in [told, Refusal::NO_LEADER] {
                let header = Duration::from_secs(told.retry_after_seconds());
                let exact = Duration::from_millis(told.retry_after_ms());
                prop_assert!(exact <= header && header <= kept / 2, "{header:?} of {kept:?}");
            }
        }
    }

    #[test]
    fn times_are_rounded_up() {
        let refusal = Refusal {
            reason: Reason::Waiting,
            position: Some(3),
            retry_after: Duration::from_micros(2_000_001),
        };
        assert_eq!(refusal.retry_after_ms(), 2001);
        assert_eq!(refusal.retry_after_seconds(), 3);
        assert_eq!(
            refusal.json(),
            r#"{"reason":"waiting","position":3,"retry_after_ms":2001}"#
        );
        let read = Refusal::parse(refusal.json().as_bytes()).unwrap();
        assert_eq!(read.retry_after, Duration::from_millis(2001));
        assert_eq!((read.reason, read.position), (Reason::Waiting, Some(3)));
    }

    #[test]
    fn every_hold_has_its_reason() {
        let words =
            BlockedBy::ALL.map(|blocked_by| (blocked_by, Reason::from(Some(blocked_by)).as_str()));
        for (blocked_by, word) in words {
            let unknown = blocked_by == BlockedBy::TokenMissing;
            assert!(word == blocked_by.as_str() || (unknown && word == "session_starts_unknown"));
        }
    }

    #[test]
    fn a_malformed_parameter_is_named() {
        assert!(Malformed::Shard.json().contains(r#""parameter":"shard""#));
        assert!(Malformed::Wait.json().contains(r#""parameter":"wait""#));
    }
}
