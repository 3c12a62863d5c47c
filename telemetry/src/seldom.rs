//! Lines that a client or the network can cause as often as it likes.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets one through in a time, and counts the others. Connections share it.
#[derive(Debug)]
pub struct Seldom {
    every: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    last: Option<Instant>,
    dropped: u64,
}

impl Seldom {
    /// At most one each minute.
    pub const fn minutely() -> Self {
        Self {
            every: Duration::from_secs(60),
            state: Mutex::new(State {
                last: None,
                dropped: 0,
            }),
        }
    }

    /// If it may be said at `now`: how many were not said since the last one.
    pub fn says(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let early = |last: Instant| now.saturating_duration_since(last) < self.every;
        if state.last.is_some_and(early) {
            state.dropped += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_a_minute_is_said_with_the_number_of_those_that_were_not() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let seldom = Seldom::minutely();
        assert_eq!(seldom.says(at(0)), Some(0));
        assert_eq!(seldom.says(at(1)), None);
        assert_eq!(seldom.says(at(59)), None);
        assert_eq!(seldom.says(at(60)), Some(2));
        assert_eq!(seldom.says(at(130)), Some(0));
    }
}
