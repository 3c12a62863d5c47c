//! The rules of Discord that tests judge by: how far apart grants are, and how many there are.

use std::time::Duration;

use crate::time::Moment;

/// A grant that was written to a client's socket.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// When it was written, by the clock of the judge.
    pub at: Moment,
    /// A number for the term in which it was granted.
    pub term: u64,
    /// When it was written, by the clock of the process that wrote it.
    pub shown: Moment,
    /// The bucket.
    pub bucket: u32,
    /// A number for the layout of the buckets. Any two buckets of different layouts overlap.
    pub layout: u32,
    /// The spacing that the process must keep.
    pub spacing: Duration,
}

/// Judges the spacing of grants.
#[derive(Debug, Default)]
pub struct Spacing {
    recent: Vec<Written>,
}

impl Spacing {
    /// The time that clocks lose when their nanoseconds are rounded.
    const ROUNDING: Duration = Duration::from_micros(1);

    /// No spacing is longer.
    const LONGEST: Duration = Duration::from_secs(10);

    /// Takes note of a grant. Returns an earlier grant if it is too close.
    ///
    /// Grants of one term are compared by the clock of their process, and others by the clock of
    /// the judge.
    pub fn written(&mut self, grant: Written) -> Option<Written> {
        assert!(grant.spacing <= Self::LONGEST, "{grant:?}");
        self.recent
            .retain(|earlier| grant.at.since(earlier.at) < Self::LONGEST);
        let is_too_close = |earlier: &&Written| {
            let one_bucket = earlier.bucket == grant.bucket || earlier.layout != grant.layout;
            let gap = if earlier.term == grant.term {
                grant.shown.since(earlier.shown)
            } else {
                grant.at.since(earlier.at) + Self::ROUNDING
            };
            one_bucket && gap < grant.spacing
        };
        let close = self.recent.iter().find(is_too_close).copied();
        self.recent.push(grant);
        close
    }
}

/// The session starts of a bot, as Discord counts them: each identify only after a while.
#[derive(Clone, Debug)]
pub struct SessionStarts {
    /// The session starts of a whole window.
    pub total: i64,
    /// The session starts that are left by Discord's count; negative if too many were used.
    pub remaining: i64,
    /// When the open window ends; none while no window is open.
    pub resets_at: Option<Moment>,
    /// The length of the window that opens when one ends; none if no other opens.
    pub window: Option<Duration>,
    /// When each identify that is not counted yet will be.
    pub uncounted: Vec<Moment>,
}

impl SessionStarts {
    /// Takes note of an identify that is counted at this instant.
    pub fn identify(&mut self, counted_at: Moment) {
        self.uncounted.push(counted_at);
    }

    /// Counts what is to be counted by now, and opens the windows that open by now.
    pub fn advance(&mut self, now: Moment) {
        while let Some(end) = self.resets_at.filter(|end| *end <= now) {
            self.count(end);
            self.remaining = self.total;
            self.resets_at = self.window.map(|window| end + window);
        }
        self.count(now);
    }

    /// Returns how many are left when all identifies are counted.
    pub fn left(&self) -> i64 {
        self.remaining - self.uncounted.len() as i64
    }

    /// Returns the time until the open window ends; zero while no window is open.
    pub fn reset_after(&self, now: Moment) -> Duration {
        self.resets_at.map_or(Duration::ZERO, |end| end.since(now))
    }

    fn count(&mut self, until: Moment) {
        let before = self.uncounted.len();
        self.uncounted.retain(|at| *at > until);
        self.remaining -= (before - self.uncounted.len()) as i64;
    }
}
