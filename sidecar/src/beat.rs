//! Whether this process was frozen for a while.
//!
//! A pod that forwards may be stopped (a machine out of memory, a migration)
//! while a grant lies in its socket. When it goes on it must not deliver that:
//! the grant is old by then, and others have followed. So while it holds
//! clients it keeps a beat, and a grant that comes after a gap is thrown away.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::moment::Moment;

/// A longer gap between two beats is one too many.
const LONGEST_GAP: Duration = Duration::from_millis(500);

/// How often to beat.
pub const EVERY: Duration = Duration::from_millis(100);

/// Counts the gaps. Whoever has a clock beats.
#[derive(Debug, Default)]
pub struct Beat {
    state: Mutex<State>,
    gaps: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    holding: usize,
    last: Moment,
}

impl Beat {
    /// Somebody is held from now on: how many gaps there were before. True when
    /// nobody was: then somebody must begin to beat.
    pub fn hold(&self, now: Moment) -> (u64, bool) {
        let mut state = self.state();
        let first = state.holding == 0;
        if first {
            // There was no need to beat, which is no gap.
            state.last = now;
        }
        state.holding += 1;
        drop(state);
        (self.beat(now), first)
    }

    /// One less is held.
    pub fn let_go(&self) {
        let mut state = self.state();
        state.holding = state.holding.saturating_sub(1);
    }

    /// Beats: how many gaps there were until now.
    pub fn beat(&self, now: Moment) -> u64 {
        let mut state = self.state();
        if now.since(state.last) > LONGEST_GAP {
            self.gaps.send_modify(|gaps| *gaps += 1);
        }
        state.last = state.last.max(now);
        *self.gaps.borrow()
    }

    /// Waits until there is a gap after so many.
    pub async fn gap_after(&self, gaps: u64) {
        // The sender is ours: it cannot be gone.
        let _ = self.gaps.subscribe().wait_for(|now| *now != gaps).await;
    }

    /// Whether it must go on beating.
    pub fn is_holding(&self) -> bool {
        self.state().holding > 0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn whoever_looks_first_after_a_gap_sees_it_and_so_do_all_others() {
        let beat = Beat::default();
        let (before, first) = beat.hold(at(10_000));
        assert!(first);
        assert_eq!(beat.beat(at(10_500)), before);
        // The beat itself may come first, and a grant just after it.
        assert_ne!(beat.beat(at(11_001)), before);
        assert_ne!(beat.beat(at(11_002)), before);
        let (after, first) = beat.hold(at(11_003));
        assert!(!first);
        assert_eq!(beat.beat(at(11_100)), after);
    }

    #[test]
    fn nobody_held_is_no_gap() {
        let beat = Beat::default();
        let (before, _) = beat.hold(at(0));
        beat.let_go();
        assert!(!beat.is_holding());
        let (after, first) = beat.hold(at(60_000));
        assert!(first);
        assert_eq!(before, after);
    }
}
