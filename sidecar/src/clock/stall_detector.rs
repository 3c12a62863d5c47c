//! Detects that this process was suspended for a while.
//!
//! A pod that forwards requests may be suspended (a machine out of memory, a migration)
//! while a grant is in its socket buffer. When it resumes it must not deliver that grant:
//! others have followed meanwhile. So while requests are held, a task wakes up
//! periodically, and a grant that arrives after a stall is discarded.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gateway_queue_core::time::Moment;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::clock::boot_time;

/// How often the task wakes up.
const INTERVAL: Duration = Duration::from_millis(50);

/// The bounds of the tolerated pause: a shorter one is never a stall, a longer one always.
const TOLERANCE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));

/// Counts the stalls of this process.
#[derive(Debug)]
pub struct StallDetector {
    tolerance: Duration,
    state: Mutex<State>,
    stalls: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    held_requests: usize,
    /// Whether the task runs.
    running: bool,
    last_check: Moment,
}

/// A request that this process holds for the leader.
#[derive(Debug)]
pub struct HeldRequest {
    detector: Arc<StallDetector>,
    /// The number of stalls when the request was forwarded.
    stalls: u64,
}

impl StallDetector {
    /// Returns a detector. A grant must not be later than `margin`, which the spacing
    /// includes.
    pub fn new(margin: Duration) -> Self {
        Self {
            tolerance: margin
                .saturating_sub(INTERVAL)
                .clamp(TOLERANCE.0, TOLERANCE.1),
            state: Mutex::default(),
            stalls: watch::channel(0).0,
        }
    }

    /// Starts holding a request. Must be called within a tokio runtime.
    pub fn hold(self: &Arc<Self>) -> HeldRequest {
        let now = boot_time::now();
        let start = {
            let mut state = self.state();
            if state.held_requests == 0 {
                // Nothing has checked since the last request, which is no stall.
                state.last_check = now;
            }
            state.held_requests += 1;
            !std::mem::replace(&mut state.running, true)
        };
        if start {
            let detector = Arc::clone(self);
            tokio::spawn(async move {
                while detector.check_again(boot_time::now()) {
                    sleep(INTERVAL).await;
                }
            });
        }
        HeldRequest {
            detector: Arc::clone(self),
            stalls: self.check(now),
        }
    }

    /// Returns the number of stalls until `now`.
    pub fn check(&self, now: Moment) -> u64 {
        let mut state = self.state();
        if now.since(state.last_check) > self.tolerance {
            self.stalls.send_modify(|stalls| *stalls += 1);
        }
        state.last_check = state.last_check.max(now);
        *self.stalls.borrow()
    }

    /// Checks on behalf of the task, and returns whether it is still needed.
    fn check_again(&self, now: Moment) -> bool {
        {
            let mut state = self.state();
            state.running = state.held_requests > 0;
            if !state.running {
                return false;
            }
        }
        self.check(now);
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeldRequest {
    /// Returns whether the process has not stalled since the request was forwarded.
    pub fn is_fresh(&self, now: Moment) -> bool {
        self.detector.check(now) == self.stalls
    }

    /// Waits for a stall.
    pub async fn stalled(&self) {
        // The sender is in `self`, so this cannot fail.
        let mut stalls = self.detector.stalls.subscribe();
        let _ = stalls.wait_for(|stalls| *stalls != self.stalls).await;
    }
}

impl Drop for HeldRequest {
    fn drop(&mut self) {
        self.detector.state().held_requests -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detector() -> Arc<StallDetector> {
        Arc::new(StallDetector::new(Duration::from_millis(250)))
    }

    fn after(millis: u64) -> Moment {
        boot_time::now() + Duration::from_millis(millis)
    }

    #[tokio::test]
    async fn every_held_request_sees_a_stall_whoever_detects_it() {
        let detector = detector();
        let held = detector.hold();
        assert!(held.is_fresh(boot_time::now()));
        // The task may detect it first, and a grant arrive just after that.
        detector.check(after(1000));
        assert!(!held.is_fresh(after(1001)));
        held.stalled().await;
        assert!(detector.hold().is_fresh(after(1002)));
    }

    #[tokio::test]
    async fn a_stall_is_longer_than_the_margin_allows() {
        let detector = detector();
        let held = detector.hold();
        let now = boot_time::now();
        detector.check(now);
        assert!(held.is_fresh(now + Duration::from_millis(200)));
        assert!(!held.is_fresh(now + Duration::from_millis(401)));
    }

    #[tokio::test]
    async fn there_is_one_task_for_all_requests() {
        let detector = detector();
        for _ in 0..100 {
            drop(detector.hold());
        }
        let held = detector.hold();
        tokio::task::yield_now().await;
        // The task's, the test's, and that of the request.
        assert_eq!(Arc::strong_count(&detector), 3);
        drop(held);
        while Arc::strong_count(&detector) > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
