//! Whether this process was frozen for a while.
//!
//! A pod that forwards may be stopped (a machine out of memory, a migration)
//! while a grant lies in its socket. When it goes on it must not deliver that:
//! the grant is old by then, and others have followed. So while it holds
//! clients it keeps a beat, and a grant that comes after a gap is thrown away.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gateway_queue_core::time::Moment;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::clock::boot_time;

/// How often to beat.
const EVERY: Duration = Duration::from_millis(50);

/// No longer gap is ever tolerated, and a shorter one never minded.
const GAPS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));

/// Counts the gaps.
#[derive(Debug)]
pub struct StallDetector {
    longest_gap: Duration,
    state: Mutex<State>,
    gaps: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    holding: usize,
    beating: bool,
    last: Moment,
}

/// A client that is held.
#[derive(Debug)]
pub struct Held {
    beat: Arc<StallDetector>,
    /// How many gaps there were when it was asked for.
    gaps: u64,
}

impl StallDetector {
    /// What a grant is late by must not be more than the margin that is kept
    /// for that.
    pub fn new(margin: Duration) -> Self {
        Self {
            longest_gap: margin.saturating_sub(EVERY).clamp(GAPS.0, GAPS.1),
            state: Mutex::default(),
            gaps: watch::channel(0).0,
        }
    }

    /// Holds a client from now on. Must be called within a tokio runtime.
    pub fn hold(self: &Arc<Self>) -> Held {
        let now = boot_time::now();
        let start = {
            let mut state = self.state();
            if state.holding == 0 {
                // There was no need to beat, which is no gap.
                state.last = now;
            }
            state.holding += 1;
            !std::mem::replace(&mut state.beating, true)
        };
        if start {
            let beat = Arc::clone(self);
            tokio::spawn(async move {
                while beat.goes_on(boot_time::now()) {
                    sleep(EVERY).await;
                }
            });
        }
        Held {
            beat: Arc::clone(self),
            gaps: self.beat(now),
        }
    }

    /// Beats: how many gaps there were until now.
    pub fn beat(&self, now: Moment) -> u64 {
        let mut state = self.state();
        if now.since(state.last) > self.longest_gap {
            self.gaps.send_modify(|gaps| *gaps += 1);
        }
        state.last = state.last.max(now);
        *self.gaps.borrow()
    }

    fn goes_on(&self, now: Moment) -> bool {
        {
            let mut state = self.state();
            state.beating = state.holding > 0;
            if !state.beating {
                return false;
            }
        }
        self.beat(now);
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Whether there was no gap since it was asked for.
    pub fn is_fresh(&self, now: Moment) -> bool {
        self.beat.beat(now) == self.gaps
    }

    /// Waits until there is one.
    pub async fn gap(&self) {
        // The sender is ours: it cannot be gone.
        let gaps = self.beat.gaps.subscribe();
        let _ = { gaps }.wait_for(|gaps| *gaps != self.gaps).await;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.beat.state().holding -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat() -> Arc<StallDetector> {
        Arc::new(StallDetector::new(Duration::from_millis(250)))
    }

    fn after(millis: u64) -> Moment {
        boot_time::now() + Duration::from_millis(millis)
    }

    #[tokio::test]
    async fn whoever_looks_first_after_a_gap_sees_it_and_so_do_all_others() {
        let beat = beat();
        let held = beat.hold();
        assert!(held.is_fresh(boot_time::now()));
        // The beat itself may come first, and a grant just after it.
        beat.beat(after(1000));
        assert!(!held.is_fresh(after(1001)));
        held.gap().await;
        assert!(beat.hold().is_fresh(after(1002)));
    }

    #[tokio::test]
    async fn a_gap_is_longer_than_what_the_margin_can_bear() {
        let beat = beat();
        let held = beat.hold();
        let now = boot_time::now();
        beat.beat(now);
        assert!(held.is_fresh(now + Duration::from_millis(200)));
        assert!(!held.is_fresh(now + Duration::from_millis(401)));
    }

    #[tokio::test]
    async fn there_is_one_beat_however_often_clients_come_and_go() {
        let beat = beat();
        for _ in 0..100 {
            drop(beat.hold());
        }
        let held = beat.hold();
        tokio::task::yield_now().await;
        // The beat's own, ours, and that of the client.
        assert_eq!(Arc::strong_count(&beat), 3);
        drop(held);
        while Arc::strong_count(&beat) > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
