//! How many events an object may cause: a burst, then one now and then. A queue
//! that flaps must not fill the cluster's store. Time comes in as an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// So many at once.
const BURST: u32 = 10;

/// And one more after each of these.
const REFILL: Duration = Duration::from_secs(60);

/// What each object has used.
#[derive(Debug, Default)]
pub struct Allowance {
    /// When all would be there again, by the UID of the object.
    used: HashMap<String, Instant>,
}

impl Allowance {
    /// Takes one for the object, if there is one.
    pub fn take(&mut self, uid: &str, now: Instant) -> bool {
        self.used.retain(|_, full| *full > now);
        let full = self.used.get(uid).copied().unwrap_or(now) + REFILL;
        let fits = full.saturating_duration_since(now) <= REFILL * BURST;
        if fits {
            self.used.insert(uid.to_owned(), full);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_one_a_minute() {
        let (mut allowance, start) = (Allowance::default(), Instant::now());
        let mut taken = |seconds| {
            let now = start + Duration::from_secs(seconds);
            (0..20).filter(|_| allowance.take("a", now)).count()
        };
        assert_eq!([taken(0), taken(59), taken(60), taken(180)], [10, 0, 1, 2]);
        assert_eq!(taken(7200), 10);
    }

    #[test]
    fn objects_have_an_allowance_each() {
        let (mut allowance, now) = (Allowance::default(), Instant::now());
        while allowance.take("a", now) {}
        assert!(allowance.take("b", now));
    }
}
