//! When each test runs.
//!
//! Most tests wait for pods, leases and caches, so many of them run at once. The others run
//! after them, phase by phase: they keep the machine busy, measure times, or take away the
//! API server or the operator.
//!
//! The harness starts all tests at once, each in a thread, in the order of their names. The
//! first ones, in `admission`, are of an early phase, so the later phases wait.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The phases, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Tests that keep the operator busy. One at a time runs beside those that wait.
    Busy,
    /// Tests that mostly wait. The longest are the first to start.
    Long,
    Short,
    /// Restarts the API server while GatewayQueues are created.
    Restart,
    /// Stops the API server for a minute.
    Outage,
    /// Creates a thousand GatewayQueues.
    Load,
    /// Tests that measure times. The machine and the operator are idle otherwise.
    Timing,
    /// Reads the log of the operator that served all tests before.
    Log,
    /// Replaces the operator by one that serves a single namespace.
    Narrow,
    /// Runs two operators, and deletes pods of theirs.
    Takeover,
    /// After all tests.
    End,
}

impl Phase {
    /// Whether tests of all of these phases run side by side.
    fn is_parallel(self) -> bool {
        self <= Self::Short
    }

    /// Whether tests of the two phases may run at the same time.
    fn overlaps(self, other: Self) -> bool {
        match self {
            Self::Busy => other != Self::Busy && other.is_parallel(),
            Self::Long | Self::Short => other.is_parallel(),
            Self::Timing | Self::End => other == self,
            _ => false,
        }
    }

    /// Whether a waiting test of this phase starts before one of the other phase.
    fn precedes(self, other: Self) -> bool {
        self < other && !(self == Self::Busy && other.is_parallel())
    }
}

/// How many tests run at once: more would only wait for the node.
const LIMIT: usize = 10;

#[derive(Default)]
struct State {
    waiting: BTreeMap<Phase, usize>,
    running: BTreeMap<Phase, usize>,
}

static STATE: Mutex<State> = Mutex::new(State {
    waiting: BTreeMap::new(),
    running: BTreeMap::new(),
});
static CHANGED: Condvar = Condvar::new();

/// A test's permission to run, until it is dropped.
pub(crate) struct Slot(Phase);

impl Slot {
    /// Waits until a test of this phase may run.
    pub(crate) fn of(phase: Phase) -> Self {
        let mut state = state();
        state.wait_in(phase);
        Self::granted(state, phase)
    }

    /// Waits until the test may go on in a later phase. Tests of phases between the two run
    /// meanwhile.
    pub(crate) fn move_to(&mut self, phase: Phase) {
        let mut state = state();
        state.wait_in(phase);
        state.leave(self.0);
        CHANGED.notify_all();
        std::mem::forget(Self::granted(state, phase));
        self.0 = phase;
    }

    fn granted(state: MutexGuard<'_, State>, phase: Phase) -> Self {
        let state = CHANGED.wait_while(state, |state| !state.may_run(phase));
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        *state.waiting.entry(phase).or_default() -= 1;
        *state.running.entry(phase).or_default() += 1;
        CHANGED.notify_all();
        Self(phase)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        state().leave(self.0);
        CHANGED.notify_all();
    }
}

impl State {
    fn wait_in(&mut self, phase: Phase) {
        *self.waiting.entry(phase).or_default() += 1;
    }

    fn leave(&mut self, phase: Phase) {
        *self.running.entry(phase).or_default() -= 1;
    }

    fn may_run(&self, phase: Phase) -> bool {
        let mut waiting = self.waiting.iter().filter(|(_, count)| **count > 0);
        let mut running = self.running.iter().filter(|(_, count)| **count > 0);
        let count: usize = self.running.values().sum();
        count < LIMIT
            && waiting.all(|(other, _)| !other.precedes(phase))
            && running.all(|(other, _)| phase.overlaps(*other))
    }
}

fn state() -> MutexGuard<'static, State> {
    // A failed test gives its slot back while it unwinds.
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}
