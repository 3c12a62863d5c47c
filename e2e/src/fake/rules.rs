//! Discord's rules for identifying: the spacing and the session start limit.
//!
//! Time is an argument: the duration since a fixed instant.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How many session starts a window has.
const TOTAL: u32 = 1000;

/// The length of a window, from its first session start.
const WINDOW: Duration = Duration::from_hours(24);

/// The limits of one bot, and its use of them.
#[derive(Debug)]
pub struct Rules {
    interval: Duration,
    max_concurrency: NonZeroU32,
    remaining: u32,
    /// The end of the open window, if one is open.
    window_ends: Option<Duration>,
    /// The last identify of each bucket: its shard and its time.
    last: BTreeMap<u32, (u32, Duration)>,
}

/// The `session_start_limit` of `/gateway/bot`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct SessionStartLimit {
    /// Session starts in a window.
    pub total: u32,
    /// Session starts left in this window.
    pub remaining: u32,
    /// Milliseconds until the window ends; 0 if none is open.
    pub reset_after: u64,
    /// The number of buckets.
    pub max_concurrency: NonZeroU32,
}

/// A change of the limits. Absent fields keep their value.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    remaining: Option<u32>,
    /// Opens a window that ends after so many milliseconds.
    reset_after_ms: Option<u64>,
}

/// A rule that an identify broke.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Breach {
    /// Less than the interval after another identify of its bucket.
    TooEarly,
    /// No session start was left.
    NoSessionStartLeft,
}

/// The verdict on one identify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The bucket of the shard.
    pub bucket: u32,
    /// The previous identify of this bucket: its shard and its time.
    pub previous: Option<(u32, Duration)>,
    /// The rule that it broke, if any.
    pub breach: Option<Breach>,
}

impl Rules {
    /// The rules for a bot that has not identified yet.
    pub fn new(interval: Duration, max_concurrency: NonZeroU32) -> Self {
        Self {
            interval,
            max_concurrency,
            remaining: TOTAL,
            window_ends: None,
            last: BTreeMap::new(),
        }
    }

    /// Judges and counts an identify. One that breaks a rule counts like any other, against the
    /// limit and against the next one.
    pub fn identify(&mut self, now: Duration, shard: u32) -> Verdict {
        self.close_window(now);
        let bucket = shard % self.max_concurrency;
        let previous = self.last.insert(bucket, (shard, now));
        let too_early = previous.is_some_and(|(_, at)| now.saturating_sub(at) < self.interval);
        let breach = if self.remaining == 0 {
            Some(Breach::NoSessionStartLeft)
        } else if too_early {
            Some(Breach::TooEarly)
        } else {
            None
        };
        self.window_ends.get_or_insert(now + WINDOW);
        self.remaining = self.remaining.saturating_sub(1);
        Verdict {
            bucket,
            previous,
            breach,
        }
    }

    /// The limits at this moment.
    pub fn session_start_limit(&mut self, now: Duration) -> SessionStartLimit {
        self.close_window(now);
        let left = self
            .window_ends
            .map_or(Duration::ZERO, |end| end.saturating_sub(now));
        SessionStartLimit {
            total: TOTAL,
            remaining: self.remaining,
            reset_after: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
            max_concurrency: self.max_concurrency,
        }
    }

    /// Changes the limits.
    pub fn change(&mut self, now: Duration, change: Change) {
        self.close_window(now);
        self.remaining = change.remaining.unwrap_or(self.remaining).min(TOTAL);
        if let Some(ms) = change.reset_after_ms {
            self.window_ends = Some(now.saturating_add(Duration::from_millis(ms)));
        }
    }

    fn close_window(&mut self, now: Duration) {
        if self.window_ends.is_some_and(|end| end <= now) {
            self.window_ends = None;
            self.remaining = TOTAL;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn rules(max_concurrency: u32) -> Rules {
        Rules::new(s(5.0), NonZeroU32::new(max_concurrency).unwrap())
    }

    #[test]
    fn an_identify_within_five_seconds_is_too_early_and_delays_the_next() {
        let mut rules = rules(1);
        assert_eq!(rules.identify(s(10.0), 0).breach, None);
        assert_eq!(rules.identify(s(15.0), 1).breach, None);
        let early = rules.identify(s(19.999), 2);
        assert_eq!(early.breach, Some(Breach::TooEarly));
        assert_eq!(early.previous, Some((1, s(15.0))));
        assert_eq!(rules.identify(s(24.0), 3).breach, Some(Breach::TooEarly));
        assert_eq!(rules.session_start_limit(s(24.0)).remaining, TOTAL - 4);
    }

    #[test]
    fn buckets_are_independent() {
        let mut rules = rules(2);
        assert_eq!(rules.identify(s(0.0), 0).bucket, 0);
        assert_eq!(rules.identify(s(0.1), 1).bucket, 1);
        assert_eq!(rules.identify(s(5.0), 2).breach, None);
        assert_eq!(rules.identify(s(5.0), 3).breach, Some(Breach::TooEarly));
    }

    #[test]
    fn without_a_session_start_an_identify_breaks_the_limit_until_the_window_ends() {
        let mut rules = rules(1);
        let change = serde_json::from_str(r#"{"remaining": 0, "reset_after_ms": 1500}"#).unwrap();
        rules.change(s(10.0), change);
        let limit = rules.session_start_limit(s(11.0));
        assert_eq!((limit.remaining, limit.reset_after), (0, 500));
        let refused = rules.identify(s(11.0), 0);
        assert_eq!(refused.breach, Some(Breach::NoSessionStartLeft));
        assert_eq!(rules.identify(s(20.0), 0).breach, None);
        let limit = rules.session_start_limit(s(80.0));
        assert_eq!(
            (limit.remaining, limit.reset_after),
            (TOTAL - 1, 86_340_000)
        );
    }
}
