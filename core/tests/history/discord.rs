//! A Discord that counts identifies late.
//!
//! The queue is judged by what Discord will have counted in the end, not by
//! the queue's own arithmetic.

use std::time::Duration;

use gateway_queue_core::gateway_bot::Limits;
use gateway_queue_core::pacing::discord_retry::Outcome;
use gateway_queue_core::testing::judge::SessionStarts;
use gateway_queue_core::time::Moment;

use super::{Mood, Says};

const TOTAL: i64 = 1000;

#[derive(Debug)]
pub(crate) struct Discord {
    pub(crate) mood: Mood,
    starts: SessionStarts,
    max_concurrency: Option<u32>,
    /// When each identify is counted, for ever.
    identifies: Vec<Moment>,
    /// What the queue was told last, and when that was true.
    told: Option<(u64, Moment)>,
    /// Until then the queue may have to guess what a predecessor granted.
    guessed_until: Moment,
}

impl Discord {
    pub(crate) fn new(says: Says, now: Moment) -> Self {
        let mut discord = Self {
            mood: Mood::Well,
            starts: SessionStarts {
                total: TOTAL,
                remaining: 0,
                resets_at: None,
                window: None,
                uncounted: Vec::new(),
            },
            max_concurrency: None,
            identifies: Vec::new(),
            told: None,
            guessed_until: now,
        };
        discord.says(says, now);
        discord
    }

    pub(crate) fn says(&mut self, says: Says, now: Moment) {
        self.starts.advance(now);
        let window = Duration::from_secs(says.reset_after_s);
        self.starts.remaining = says.remaining as i64;
        self.starts.resets_at = (!window.is_zero()).then_some(now + window);
        self.max_concurrency = says.max_concurrency;
    }

    /// Others use some of what is left.
    pub(crate) fn others_use(&mut self, session_starts: u64, now: Moment) {
        self.starts.advance(now);
        self.starts.remaining -= session_starts as i64;
    }

    /// A shard identifies, and it is counted only then.
    pub(crate) fn identify(&mut self, counted_at: Moment) {
        self.starts.identify(counted_at);
        self.identifies.push(counted_at);
    }

    /// Counts at once what it has not counted yet.
    pub(crate) fn catch_up(&mut self, now: Moment) {
        for counted_at in self.starts.uncounted.iter_mut().chain(&mut self.identifies) {
            *counted_at = now.min(*counted_at);
        }
    }

    /// The queue was started anew, and guesses until `until`.
    pub(crate) fn restarted(&mut self, until: Moment) {
        self.told = None;
        self.guessed_until = until;
    }

    /// What it answers to a question that it reads at `now`.
    pub(crate) fn answer(&mut self, now: Moment) -> Outcome {
        // The queue's guess is two grants for each of today's buckets. That is
        // too few when a predecessor had more buckets a moment ago: such a story
        // is not told here, Discord is quick to count then.
        let guess = u64::from(self.max_concurrency.unwrap_or(1)) * 2;
        if now < self.guessed_until && self.starts.uncounted.len() as u64 > guess {
            self.catch_up(now);
        }
        self.starts.advance(now);
        match self.mood {
            Mood::Well => Outcome::Limits(Limits {
                shards: 1,
                total: TOTAL as u64,
                remaining: self.starts.remaining.max(0) as u64,
                reset_after: self.starts.reset_after(now),
                max_concurrency: self.max_concurrency,
            }),
            Mood::Unreachable => Outcome::Unreachable("refused".to_owned()),
            Mood::Useless => Outcome::Invalid("503".to_owned()),
            Mood::RateLimited(seconds) => Outcome::RateLimited(Duration::from_secs(seconds)),
            Mood::Rejects => Outcome::Rejected,
        }
    }

    pub(crate) fn told(&mut self, remaining: u64, read_at: Moment) {
        self.told = Some((remaining, read_at));
    }

    pub(crate) fn told_nothing(&mut self) {
        self.told = None;
    }

    /// How many session starts are left in truth: what the queue was told, less
    /// each identify that was not in it.
    pub(crate) fn left(&self) -> Option<i64> {
        let (remaining, read_at) = self.told?;
        let missed = self.identifies.iter().filter(|at| **at > read_at).count();
        Some(remaining as i64 - missed as i64)
    }
}
