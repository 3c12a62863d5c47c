//! Limits the events of each object: a burst, then one per minute. Time is an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

const BURST: u32 = 10;

/// The time until another event is allowed.
const REFILL: Duration = Duration::from_secs(60);

/// A token bucket for each object.
#[derive(Debug, Default)]
pub(super) struct RateLimit {
    /// When the bucket is full again, by the UID of the object.
    full_at: HashMap<String, Instant>,
}

impl RateLimit {
    /// Returns whether another event of the object is allowed, and counts it if so.
    pub(super) fn take(&mut self, uid: &str, now: Instant) -> bool {
        self.full_at.retain(|_, full_at| *full_at > now);
        let full_at = self.full_at.get(uid).copied().unwrap_or(now) + REFILL;
        let allowed = full_at.saturating_duration_since(now) <= REFILL * BURST;
        if allowed {
            self.full_at.insert(uid.to_owned(), full_at);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_object_has_a_burst_and_then_one_event_a_minute() {
        let (mut limit, start) = (RateLimit::default(), Instant::now());
        let mut taken = |uid, seconds| {
            let now = start + Duration::from_secs(seconds);
            (0..20).filter(|_| limit.take(uid, now)).count()
        };
        let counts = [0, 59, 60, 180].map(|seconds| taken("a", seconds));
        assert_eq!(counts, [10, 0, 1, 2]);
        assert_eq!(taken("b", 180), 10);
        assert_eq!(taken("a", 7200), 10);
    }
}
