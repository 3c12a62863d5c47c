//! A Discord that counts identifies late.

use std::time::Duration;

use gateway_queue::limits::Limits;

use crate::clock::{SECOND, True, length};

/// How long an identify may go uncounted: two intervals, by the fastest clock.
const LATEST: True = 2 * 5 * SECOND * 1_000_000 / crate::clock::RATES.1;

#[derive(Debug)]
pub(crate) struct Discord {
    pub(crate) up: bool,
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
            up: true,
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

    pub(crate) fn limits(&mut self, now: True) -> Limits {
        self.go_on(now);
        Limits {
            shards: 8,
            total: self.total as u64,
            remaining: self.remaining.max(0) as u64,
            reset_after: length(self.resets_at - now).max(Duration::from_millis(1)),
            max_concurrency: Some(self.buckets),
        }
    }

    /// All is well, and there is enough for everybody.
    pub(crate) fn be_generous(&mut self, now: True) {
        self.go_on(now);
        self.up = true;
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
