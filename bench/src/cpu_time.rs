//! The processor time of this thread, which other programs do not prolong.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Returns how long this thread has run.
pub(crate) fn now() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // Neither is negative.
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Returns how long this thread ran in `work`, and its result.
pub(crate) fn of<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let started = now();
    let result = work();
    (now().saturating_sub(started), result)
}
