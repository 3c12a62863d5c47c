//! A Discord that counts identifies late, and sometimes fails or answers garbage.

use std::time::Duration;

use gateway_queue_core::gateway_bot::Limits;
use gateway_queue_core::pacing::discord_retry::Outcome;
use gateway_queue_core::testing::judge::SessionStarts;
use gateway_queue_core::time::Moment;

use crate::clock::{SECOND, True, length};

/// How long an identify may remain uncounted: two intervals, by the fastest clock.
const LATEST: True = 2 * 5 * SECOND * 1_000_000 / crate::clock::RATES.1;

/// The numbers in an answer. A bad answer has garbage in one of them.
const FIELDS: [&str; 5] = [
    "shards",
    "total",
    "remaining",
    "reset_after",
    "max_concurrency",
];

const NO_NUMBERS: [&str; 10] = [
    "null",
    "-1",
    "18446744073709551616",
    "1e400",
    "0.5",
    "\"1\"",
    "true",
    "[]",
    "{}",
    "NaN",
];

/// How Discord answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Healthy,
    Unreachable,
    /// With errors and garbage.
    Broken,
}

#[derive(Debug)]
pub(crate) struct Discord {
    pub(crate) health: Health,
    pub(crate) buckets: u32,
    starts: SessionStarts,
}

impl Discord {
    pub(crate) fn new(dice: &mut fastrand::Rng) -> Self {
        let window = dice.u64(20..150) * SECOND;
        let max = if dice.bool() { 12 } else { 40 };
        let total = dice.i64(4..max);
        Self {
            health: Health::Healthy,
            buckets: dice.u32(1..=3),
            starts: SessionStarts {
                total,
                remaining: dice.i64(0..=total),
                resets_at: Some(Moment::from_nanos(dice.u64(1..=window))),
                window: Some(length(window)),
                uncounted: Vec::new(),
            },
        }
    }

    /// A shard identifies. Returns how many session starts are left in truth.
    pub(crate) fn identify(&mut self, now: True, dice: &mut fastrand::Rng) -> i64 {
        let late = match dice.bool() {
            true => LATEST,
            false => dice.u64(0..=LATEST),
        };
        self.starts.identify(Moment::from_nanos(now + late));
        self.starts.advance(Moment::from_nanos(now));
        self.starts.left()
    }

    pub(crate) fn answer(&mut self, now: True, dice: &mut fastrand::Rng) -> Outcome {
        self.starts.advance(Moment::from_nanos(now));
        match self.health {
            Health::Healthy => read(&self.limits(now, None)),
            Health::Unreachable => Outcome::Unreachable("no route".to_owned()),
            Health::Broken => match dice.u8(0..6) {
                0 => Outcome::Invalid("Discord answered 503".to_owned()),
                1 => Outcome::RateLimited(Duration::from_secs(dice.u64(0..60))),
                2 => Outcome::Rejected,
                3 => read(["", "<html>", "[]", "null", "{\"shards\":{}}"][dice.usize(0..5)]),
                _ => {
                    let field = FIELDS[dice.usize(..FIELDS.len())];
                    let value = NO_NUMBERS[dice.usize(..NO_NUMBERS.len())];
                    read(&self.limits(now, Some((field, value))))
                }
            },
        }
    }

    /// Returns the limits as JSON, with another value in one field.
    fn limits(&self, now: True, wrong: Option<(&str, &str)>) -> String {
        let reset_after = self.starts.reset_after(Moment::from_nanos(now));
        let reset_after = reset_after.max(Duration::from_millis(1));
        let numbers = [
            8,
            self.starts.total as u128,
            self.starts.remaining.max(0) as u128,
            reset_after.as_millis(),
            self.buckets.into(),
        ];
        let field = |(field, number): (&&str, u128)| match wrong {
            Some((wrong, value)) if wrong == *field => format!("\"{field}\":{value}"),
            _ => format!("\"{field}\":{number}"),
        };
        let fields: Vec<_> = FIELDS.iter().zip(numbers).map(field).collect();
        let (shards, limit) = (&fields[0], fields[1..].join(","));
        format!("{{\"url\":\"wss://x\",{shards},\"session_start_limit\":{{{limit}}}}}")
    }

    /// Answers from now on, and has enough session starts for every shard.
    pub(crate) fn be_generous(&mut self, now: True) {
        self.starts.advance(Moment::from_nanos(now));
        self.health = Health::Healthy;
        self.starts.total = 1000;
        self.starts.remaining = 1000;
    }
}

/// Reads an answer with the status 200.
fn read(body: &str) -> Outcome {
    match Limits::parse(body.as_bytes()) {
        Ok(limits) => Outcome::Limits(limits),
        Err(error) => Outcome::Invalid(error),
    }
}
