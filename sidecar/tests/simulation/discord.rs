//! A Discord that counts identifies late, and is out of its mind at times.

use std::time::Duration;

use gateway_queue_core::gateway_bot::Limits;
use gateway_queue_core::pacing::budget::Outcome;

use crate::clock::{SECOND, True, length};

/// How long an identify may go uncounted: two intervals, by the fastest clock.
const LATEST: True = 2 * 5 * SECOND * 1_000_000 / crate::clock::RATES.1;

/// What answers with a number that is not one in one of these fields.
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

/// How Discord is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Well,
    /// It cannot be reached.
    Away,
    /// It answers with errors and garbage.
    Sick,
}

#[derive(Debug)]
pub(crate) struct Discord {
    pub(crate) health: Health,
    pub(crate) buckets: u32,
    total: i64,
    remaining: i64,
    window: True,
    resets_at: True,
    /// When each identify that it has not counted yet will be.
    uncounted: Vec<True>,
}

impl Discord {
    pub(crate) fn new(dice: &mut fastrand::Rng) -> Self {
        let window = dice.u64(20..150) * SECOND;
        let most = if dice.bool() { 12 } else { 40 };
        let total = dice.i64(4..most);
        Self {
            health: Health::Well,
            buckets: dice.u32(1..=3),
            total,
            remaining: dice.i64(0..=total),
            window,
            resets_at: dice.u64(1..=window),
            uncounted: Vec::new(),
        }
    }

    /// A shard identifies. How many session starts are left in truth.
    pub(crate) fn identify(&mut self, now: True, dice: &mut fastrand::Rng) -> i64 {
        let late = match dice.bool() {
            true => LATEST,
            false => dice.u64(0..=LATEST),
        };
        self.uncounted.push(now + late);
        self.go_on(now);
        self.remaining - self.uncounted.len() as i64
    }

    pub(crate) fn answer(&mut self, now: True, dice: &mut fastrand::Rng) -> Outcome {
        self.go_on(now);
        match self.health {
            Health::Well => read(&self.limits(now, None)),
            Health::Away => Outcome::Unreachable("no route".to_owned()),
            Health::Sick => match dice.u8(0..6) {
                0 => Outcome::Useless("Discord answered 503".to_owned()),
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

    /// As JSON, with another value in one field.
    fn limits(&self, now: True, wrong: Option<(&str, &str)>) -> String {
        let reset_after = length(self.resets_at - now).max(Duration::from_millis(1));
        let numbers = [
            8,
            self.total as u128,
            self.remaining.max(0) as u128,
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

    /// All is well, and there is enough for everybody.
    pub(crate) fn be_generous(&mut self, now: True) {
        self.go_on(now);
        self.health = Health::Well;
        self.total = 1000;
        self.remaining = 1000;
    }

    fn go_on(&mut self, now: True) {
        while self.resets_at <= now {
            self.count(self.resets_at);
            self.remaining = self.total;
            self.resets_at += self.window;
        }
        self.count(now);
    }

    fn count(&mut self, until: True) {
        let before = self.uncounted.len();
        self.uncounted.retain(|at| *at > until);
        self.remaining -= (before - self.uncounted.len()) as i64;
    }
}

/// An answer with the status 200.
fn read(body: &str) -> Outcome {
    match Limits::parse(body.as_bytes()) {
        Ok(limits) => Outcome::Limits(limits),
        Err(why) => Outcome::Useless(why),
    }
}
