//! A Discord that counts identifies late.
//!
//! The queue is judged by what Discord will have counted in the end, not by its own arithmetic.

use std::time::Duration;

use gateway_queue_core::gateway_bot::Limits;
use gateway_queue_core::pacing::discord_retry::Outcome;
use gateway_queue_core::testing::judge::SessionStarts;
use gateway_queue_core::time::Moment;

use super::{Mode, Report};

const TOTAL: i64 = 1000;

#[derive(Debug)]
pub(crate) struct Discord {
    pub(crate) mode: Mode,
    starts: SessionStarts,
    max_concurrency: Option<u32>,
    /// When each identify is counted.
    identifies: Vec<Moment>,
    /// The session starts that the queue received last, and when Discord read them.
    pub(crate) received: Option<(u64, Moment)>,
    /// Until then, the queue may have to assume what its predecessor granted.
    assumes_until: Moment,
}

impl Discord {
    pub(crate) fn new(report: Report, now: Moment) -> Self {
        let mut discord = Self {
            mode: Mode::Normal,
            starts: SessionStarts {
                total: TOTAL,
                remaining: 0,
                resets_at: None,
                window: None,
                uncounted: Vec::new(),
            },
            max_concurrency: None,
            identifies: Vec::new(),
            received: None,
            assumes_until: now,
        };
        discord.report(report, now);
        discord
    }

    pub(crate) fn report(&mut self, report: Report, now: Moment) {
        self.starts.advance(now);
        let window = Duration::from_secs(report.reset_after_s);
        self.starts.remaining = report.remaining as i64;
        self.starts.resets_at = (!window.is_zero()).then_some(now + window);
        self.max_concurrency = report.max_concurrency;
    }

    /// Other programs use some of the session starts left.
    pub(crate) fn others_use(&mut self, session_starts: u64, now: Moment) {
        self.starts.advance(now);
        self.starts.remaining -= session_starts as i64;
    }

    /// A shard identifies, which is counted at `counted_at`.
    pub(crate) fn identify(&mut self, counted_at: Moment) {
        self.starts.identify(counted_at);
        self.identifies.push(counted_at);
    }

    /// Counts all identifies immediately.
    pub(crate) fn catch_up(&mut self, now: Moment) {
        for counted_at in self.starts.uncounted.iter_mut().chain(&mut self.identifies) {
            *counted_at = now.min(*counted_at);
        }
    }

    /// The queue was restarted, and assumes grants of its predecessor until `until`.
    pub(crate) fn restarted(&mut self, until: Moment) {
        self.received = None;
        self.assumes_until = until;
    }

    /// Returns the response to a request that it reads at `now`.
    pub(crate) fn answer(&mut self, now: Moment) -> Outcome {
        // The queue assumes two grants per current bucket. That is too few if its predecessor had
        // more buckets, so Discord counts faster here.
        let assumed = u64::from(self.max_concurrency.unwrap_or(1)) * 2;
        if now < self.assumes_until && self.starts.uncounted.len() as u64 > assumed {
            self.catch_up(now);
        }
        self.starts.advance(now);
        match self.mode {
            Mode::Normal => Outcome::Limits(Limits {
                url: None,
                shards: 1,
                total: TOTAL as u64,
                remaining: self.starts.remaining.max(0) as u64,
                reset_after: self.starts.reset_after(now),
                max_concurrency: self.max_concurrency,
            }),
            Mode::Unreachable => Outcome::Unreachable("refused".to_owned()),
            Mode::Invalid => Outcome::Invalid("503".to_owned()),
            Mode::RateLimited(seconds) => Outcome::RateLimited(Duration::from_secs(seconds)),
            Mode::Rejects => Outcome::Rejected,
        }
    }

    /// Returns how many session starts are really left: those that the queue received, less each
    /// identify that they do not include.
    pub(crate) fn left(&self) -> Option<i64> {
        let (remaining, read_at) = self.received?;
        let missed = self.identifies.iter().filter(|at| **at > read_at).count();
        Some(remaining as i64 - missed as i64)
    }
}
