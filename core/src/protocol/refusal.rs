//! The responses, other than the grant, to a client that sent `wait` or `report`.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::lease_state::BlockedBy;
use crate::names::named;
use crate::protocol::request::Malformed;
use crate::time::millis_rounded_up;

named! {
    /// Why a waiter was not granted in time.
    pub enum Reason {
        /// Other waiters are before it, or the spacing of its bucket has not passed.
        Waiting = "waiting",
        /// No session start is left.
        SessionStartsExhausted = "session_starts_exhausted",
        /// Discord has not reported the session starts, or there is no token to fetch them with.
        SessionStartsUnknown = "session_starts_unknown",
        /// Discord rejects the token.
        TokenRejected = "token_rejected",
        /// The shard was granted too often, and is held for a while.
        CrashLooping = "crash_looping",
        /// There is no leader, or it cannot be reached.
        NoLeader = "no_leader",
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

/// The response to a waiter that was not granted in time. Its place is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why it was not granted.
    pub reason: Reason,
    /// The position of the waiter in its bucket, from 1; none if it is unknown, or if its shard is
    /// held.
    pub position: Option<usize>,
    /// When to retry: before the reservation expires.
    pub retry_after: Duration,
}

/// The shortest time for which a place may be reserved: `Retry-After` has whole seconds, and is at
/// most half of that time.
pub const MIN_RESERVATION_TTL: Duration = Duration::from_secs(2);

/// The shortest `Retry-After`.
const MIN_RETRY: Duration = Duration::from_millis(250);

/// Returns when to retry if the grant is `away` and the place is reserved for `ttl`: at most half
/// of `ttl`, also if it is rounded up to seconds.
pub fn retry_after(away: Duration, ttl: Duration) -> Duration {
    let latest = Duration::from_secs(ttl.as_secs() / 2);
    away.min(latest).max(MIN_RETRY)
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
    /// The refusal without a leader, or during shutdown. The place may be reserved at a leader that
    /// cannot be reached now, for at least [`MIN_RESERVATION_TTL`].
    pub const NO_LEADER: Self = Self {
        reason: Reason::NoLeader,
        position: None,
        retry_after: Duration::from_secs(1),
    };

    /// Returns the time in milliseconds, rounded up so that no client retries too early.
    pub fn retry_after_ms(&self) -> u64 {
        millis_rounded_up(self.retry_after)
    }

    /// Returns the value of the `Retry-After` header: seconds, rounded up.
    pub fn retry_after_seconds(&self) -> u64 {
        self.retry_after_ms().div_ceil(1000)
    }

    /// Returns the body of the response 429.
    pub fn json(&self) -> String {
        json(&Body {
            reason: self.reason.as_str().into(),
            position: self.position,
            retry_after_ms: self.retry_after_ms(),
        })
    }

    /// Reads what [`Refusal::json`] returns; none if it is anything else.
    pub fn parse(json: &[u8]) -> Option<Self> {
        let body: Body = serde_json::from_slice(json).ok()?;
        Some(Self {
            // A newer version may have other reasons.
            reason: Reason::parse(&body.reason).unwrap_or(Reason::Waiting),
            position: body.position,
            retry_after: Duration::from_millis(body.retry_after_ms),
        })
    }
}

impl Malformed {
    /// Returns the body of the response 400. It does not quote the value, which may be a token.
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
            Self::Report => (
                "report",
                "report must be given once, as ready, resumed, invalid_session or closed",
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
    // Numbers and plain strings: nothing can fail.
    serde_json::to_string(body).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::request::Report;

    /// Times of reservations, mostly a few seconds, where rounding matters.
    fn kept() -> impl Strategy<Value = Duration> {
        let longer = prop_oneof![Just(0), 0..8_000_u64, 0..86_398_000_u64];
        longer.prop_map(|longer| MIN_RESERVATION_TTL + Duration::from_millis(longer))
    }

    proptest! {
        #[test]
        fn a_client_that_honors_retry_after_returns_before_its_reservation_expires(
            away in prop_oneof![0..20_000_u64, any::<u64>()],
            kept in kept(),
        ) {
            let refusal = Refusal {
                retry_after: retry_after(Duration::from_millis(away), kept),
                ..Refusal::NO_LEADER
            };
            for refusal in [refusal, Refusal::NO_LEADER] {
                let header = Duration::from_secs(refusal.retry_after_seconds());
                let exact = Duration::from_millis(refusal.retry_after_ms());
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
    fn every_blocked_by_has_a_reason() {
        for blocked_by in BlockedBy::ALL {
            let expected = match blocked_by {
                BlockedBy::TokenMissing => "session_starts_unknown",
                other => other.as_str(),
            };
            assert_eq!(Reason::from(Some(blocked_by)).as_str(), expected);
        }
    }

    #[test]
    fn a_malformed_parameter_is_named() {
        assert!(Malformed::Shard.json().contains(r#""parameter":"shard""#));
        assert!(Malformed::Wait.json().contains(r#""parameter":"wait""#));
        assert!(Malformed::Report.json().contains(r#""parameter":"report""#));
    }

    #[test]
    fn every_report_is_named_as_accepted() {
        for report in Report::ALL {
            assert!(Malformed::Report.json().contains(report.as_str()));
        }
    }
}
