//! Whether the leader answers those that this pod asks for. That is seen here
//! long before its Lease runs out.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::moment::Moment;

/// Whoever waits asks again sooner than this.
const FRESH: Duration = Duration::from_secs(5);

/// It is logged again when it was well for so long.
const QUIET: Duration = Duration::from_mins(1);

/// When a leader was last asked in vain. Many connections share it.
#[derive(Debug, Default)]
pub struct Reach {
    /// In nanoseconds of [`Moment`]; 0 for never.
    silent: AtomicU64,
}

impl Reach {
    /// A leader was asked in vain, twice at least: one that gives way says
    /// nothing once, too. Whether that is worth a line in the log.
    pub fn silent(&self, now: Moment) -> bool {
        let before = self.silent.swap(now.as_nanos(), Ordering::Relaxed);
        before == 0 || now.since(Moment::from_nanos(before)) > QUIET
    }

    /// Whether that is so at present.
    pub fn is_silent(&self, now: Moment) -> bool {
        let at = self.silent.load(Ordering::Relaxed);
        at != 0 && now.since(Moment::from_nanos(at)) < FRESH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_leader_is_told_once_and_forgotten_when_nobody_complains() {
        let at = |seconds| Moment::ZERO + Duration::from_secs(seconds);
        let reach = Reach::default();
        assert!(!reach.is_silent(at(1)));
        assert!(reach.silent(at(1)));
        assert!(!reach.silent(at(3)));
        assert!(reach.is_silent(at(7)));
        assert!(!reach.is_silent(at(8)));
        assert!(!reach.silent(at(60)));
        assert!(reach.silent(at(121)));
    }
}
