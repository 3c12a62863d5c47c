//! Discord's rules for identifying: how far apart, and how many a day.
//!
//! Time comes in as an argument: how long after some fixed beginning.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What Discord allows a bot, and what of it is used up.
#[derive(Debug)]
pub struct Rules {
    interval: Duration,
    window: Duration,
    max_concurrency: NonZeroU32,
    total: u32,
    remaining: u32,
    /// When the open window ends; none while no window is open.
    window_ends: Option<Duration>,
    /// When each shard identified last, whatever became of it. By shard and not
    /// by bucket, because the buckets change with `max_concurrency`.
    last: BTreeMap<u32, Duration>,
}

/// The allowance of a bot that has not identified yet.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// How far apart the identifies of one bucket must be.
    pub interval: Duration,
    /// How many buckets there are.
    pub max_concurrency: NonZeroU32,
    /// How many session starts a window has.
    pub total: u32,
    /// How long a window lasts, from the first session start in it.
    pub window: Duration,
}

/// What Discord tells a bot that asks: `session_start_limit` of `/gateway/bot`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct SessionStartLimit {
    /// How many session starts a window has.
    pub total: u32,
    /// How many are left in this window.
    pub remaining: u32,
    /// Milliseconds until the window ends; 0 while no window is open.
    pub reset_after: u64,
    /// How many buckets there are.
    pub max_concurrency: NonZeroU32,
}

/// A change of the limits while the bot runs. What is absent stays.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    max_concurrency: Option<NonZeroU32>,
    total: Option<u32>,
    remaining: Option<u32>,
    /// Opens a window that ends in so many milliseconds; 0 closes it.
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

/// What the rules say of one identify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The bucket of the shard.
    pub bucket: u32,
    /// The identify of this bucket before this one: its shard, and when.
    pub previous: Option<(u32, Duration)>,
    /// The rule that it broke, if it broke one.
    pub breach: Option<Breach>,
}

impl Rules {
    /// The rules for a bot that has not identified yet.
    pub fn new(allowance: Allowance) -> Self {
        Self {
            interval: allowance.interval,
            window: allowance.window,
            max_concurrency: allowance.max_concurrency,
            total: allowance.total,
            remaining: allowance.total,
            window_ends: None,
            last: BTreeMap::new(),
        }
    }

    /// How far apart the identifies of one bucket must be.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Judges, and counts, an identify of `shard`. One that breaks a rule counts
    /// like any other: against the day, and against those that follow it.
    pub fn identify(&mut self, now: Duration, shard: u32) -> Judgement {
        self.close_window(now);
        let bucket = shard % self.max_concurrency;
        let previous = self
            .last
            .iter()
            .filter(|(shard, _)| **shard % self.max_concurrency == bucket)
            .max_by_key(|(_, at)| **at)
            .map(|(shard, at)| (*shard, *at));
        self.last.insert(shard, now);

        let too_early = previous.is_some_and(|(_, at)| now.saturating_sub(at) < self.interval);
        let breach = if self.remaining == 0 {
            Some(Breach::NoSessionStartLeft)
        } else if too_early {
            Some(Breach::TooEarly)
        } else {
            None
        };
        self.window_ends.get_or_insert(now + self.window);
        self.remaining = self.remaining.saturating_sub(1);
        Judgement {
            bucket,
            previous,
            breach,
        }
    }

    /// What Discord tells at this moment.
    pub fn session_start_limit(&mut self, now: Duration) -> SessionStartLimit {
        self.close_window(now);
        let left = self.window_ends.map(|end| end.saturating_sub(now));
        SessionStartLimit {
            total: self.total,
            remaining: self.remaining,
            reset_after: left.map_or(0, |left| {
                u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
            }),
            max_concurrency: self.max_concurrency,
        }
    }

    /// Changes the limits, as Discord does when a bot grows.
    pub fn change(&mut self, now: Duration, change: Change) {
        self.close_window(now);
        let Change {
            max_concurrency,
            total,
            remaining,
            reset_after_ms,
        } = change;
        self.max_concurrency = max_concurrency.unwrap_or(self.max_concurrency);
        self.total = total.unwrap_or(self.total);
        self.remaining = remaining.unwrap_or(self.remaining).min(self.total);
        if let Some(ms) = reset_after_ms {
            self.window_ends = (ms > 0).then(|| now + Duration::from_millis(ms));
        }
    }

    fn close_window(&mut self, now: Duration) {
        if self.window_ends.is_some_and(|end| end <= now) {
            self.window_ends = None;
            self.remaining = self.total;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Allowance, Breach, Change, Rules};
    use std::num::NonZeroU32;
    use std::time::Duration;

    fn s(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn rules(max_concurrency: u32, total: u32) -> Rules {
        Rules::new(Allowance {
            interval: s(5.0),
            max_concurrency: NonZeroU32::new(max_concurrency).unwrap(),
            total,
            window: s(86_400.0),
        })
    }

    #[test]
    fn five_seconds_apart_is_right_and_a_millisecond_less_is_too_early() {
        let mut rules = rules(1, 1000);
        assert_eq!(rules.identify(s(10.0), 0).breach, None);
        assert_eq!(rules.identify(s(15.0), 1).breach, None);
        let early = rules.identify(s(19.999), 2);
        assert_eq!(early.breach, Some(Breach::TooEarly));
        assert_eq!(early.previous, Some((1, s(15.0))));
    }

    #[test]
    fn an_identify_that_was_too_early_counts_against_the_next_one() {
        let mut rules = rules(1, 1000);
        rules.identify(s(0.0), 0);
        rules.identify(s(4.0), 1);
        assert_eq!(rules.identify(s(8.0), 2).breach, Some(Breach::TooEarly));
        assert_eq!(rules.identify(s(13.0), 3).breach, None);
    }

    #[test]
    fn buckets_do_not_wait_for_each_other() {
        let mut rules = rules(2, 1000);
        assert_eq!(rules.identify(s(0.0), 0).bucket, 0);
        assert_eq!(rules.identify(s(0.1), 1).bucket, 1);
        assert_eq!(rules.identify(s(5.0), 2).breach, None);
        assert_eq!(rules.identify(s(5.0), 3).breach, Some(Breach::TooEarly));
    }

    #[test]
    fn with_fewer_buckets_the_latest_identify_of_those_that_met_counts() {
        let mut rules = rules(4, 1000);
        rules.identify(s(0.0), 0);
        rules.identify(s(3.0), 2);
        rules.change(
            s(3.0),
            Change {
                max_concurrency: NonZeroU32::new(2),
                ..Change::default()
            },
        );
        let judgement = rules.identify(s(7.0), 4);
        assert_eq!(judgement.previous, Some((2, s(3.0))));
        assert_eq!(judgement.breach, Some(Breach::TooEarly));
    }

    #[test]
    fn every_identify_costs_a_session_start_also_one_that_is_too_early() {
        let mut rules = rules(1, 3);
        rules.identify(s(0.0), 0);
        rules.identify(s(1.0), 1);
        assert_eq!(rules.session_start_limit(s(2.0)).remaining, 1);
        assert_eq!(rules.identify(s(10.0), 2).breach, None);
        assert_eq!(
            rules.identify(s(20.0), 3).breach,
            Some(Breach::NoSessionStartLeft)
        );
    }

    #[test]
    fn a_window_opens_with_the_first_start_and_refills_when_it_ends() {
        let mut rules = rules(1, 3);
        assert_eq!(rules.session_start_limit(s(50.0)).reset_after, 0);
        rules.identify(s(100.0), 0);
        let told = rules.session_start_limit(s(160.0));
        assert_eq!((told.remaining, told.reset_after), (2, 86_340_000));
        let told = rules.session_start_limit(s(86_500.0));
        assert_eq!((told.remaining, told.reset_after), (3, 0));
    }

    #[test]
    fn limits_change_only_where_they_are_told_to() {
        let mut rules = rules(1, 1000);
        let change = serde_json::from_str(r#"{"remaining": 2, "reset_after_ms": 1500}"#).unwrap();
        rules.change(s(10.0), change);
        let told = rules.session_start_limit(s(11.0));
        assert_eq!((told.total, told.remaining), (1000, 2));
        assert_eq!((told.reset_after, told.max_concurrency.get()), (500, 1));
        assert!(serde_json::from_str::<Change>(r#"{"max_concurrency": 0}"#).is_err());
        assert!(serde_json::from_str::<Change>(r#"{"concurrency": 2}"#).is_err());
    }
}
