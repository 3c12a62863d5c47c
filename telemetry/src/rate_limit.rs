//! A limit for log lines that clients or the network can cause at will.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Allows one line per interval, and counts the suppressed ones.
#[derive(Debug)]
pub struct RateLimit {
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    last: Option<Instant>,
    suppressed: u64,
}

impl RateLimit {
    /// Returns a limit of one line per minute.
    pub const fn per_minute() -> Self {
        Self {
            interval: Duration::from_secs(60),
            state: Mutex::new(State {
                last: None,
                suppressed: 0,
            }),
        }
    }

    /// Returns the number of lines suppressed since the last one if a line is allowed at
    /// `now`; none if not.
    pub fn allow(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let early = |last: Instant| now.saturating_duration_since(last) < self.interval;
        if state.last.is_some_and(early) {
            state.suppressed += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_is_allowed_and_the_others_are_counted() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let limit = RateLimit::per_minute();
        assert_eq!(limit.allow(at(0)), Some(0));
        assert_eq!(limit.allow(at(1)), None);
        assert_eq!(limit.allow(at(59)), None);
        assert_eq!(limit.allow(at(60)), Some(2));
        assert_eq!(limit.allow(at(130)), Some(0));
    }
}
