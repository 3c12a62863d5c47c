//! When each test runs.
//!
//! Most tests wait for pods, leases and caches, so many of them run at once. The others run
//! after them, phase by phase: they keep the machine busy, measure times, or take away the
//! API server or the operator.
//!
//! The harness starts all tests at once, each in a thread, in the order of their names. The
//! first ones, in `admission`, are of an early phase, so the later phases wait.

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
    /// Creates a thousand GatewayQueues, and restarts the API server.
    Load,
    /// Tests that measure times. The machine and the operator are idle otherwise, except for
    /// the pods that [`ChangesPods`] allows to start.
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

struct State {
    waiting: Vec<Phase>,
    running: Vec<Phase>,
}

static STATE: Mutex<State> = Mutex::new(State {
    waiting: Vec::new(),
    running: Vec::new(),
});
static CHANGED: Condvar = Condvar::new();

/// A test's permission to run, until it is dropped.
pub(crate) struct Slot(Phase);

impl Slot {
    /// Waits until a test of this phase may run.
    pub(crate) fn of(phase: Phase) -> Self {
        let mut state = state();
        state.waiting.push(phase);
        Self::granted(state, phase)
    }

    /// Waits until the test may go on in a later phase. Tests of phases between the two run
    /// meanwhile.
    pub(crate) fn move_to(&mut self, phase: Phase) {
        let mut state = state();
        state.waiting.push(phase);
        remove(&mut state.running, self.0);
        CHANGED.notify_all();
        std::mem::forget(Self::granted(state, phase));
        self.0 = phase;
    }

    fn granted(state: MutexGuard<'_, State>, phase: Phase) -> Self {
        let state = CHANGED.wait_while(state, |state| !state.may_run(phase));
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        remove(&mut state.waiting, phase);
        state.running.push(phase);
        CHANGED.notify_all();
        Self(phase)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        remove(&mut state().running, self.0);
        CHANGED.notify_all();
    }
}

impl State {
    fn may_run(&self, phase: Phase) -> bool {
        self.running.len() < LIMIT
            && self.waiting.iter().all(|other| !other.precedes(phase))
            && self.running.iter().all(|other| phase.overlaps(*other))
    }
}

/// The permission of one test of [`Phase::Timing`] to start or replace pods, until it is dropped.
///
/// These tests run side by side, but pods that start keep the machine busy, and then the API
/// server takes hundreds of milliseconds to pass on a Lease. So no test may do that while another
/// one measures how long a change of the leader takes.
pub(crate) struct ChangesPods {
    _only: MutexGuard<'static, ()>,
}

impl ChangesPods {
    /// Waits until no other test has the permission.
    pub(crate) fn wait() -> Self {
        static ONE: Mutex<()> = Mutex::new(());
        // A failed test gives its permission back while it unwinds.
        let _only = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        Self { _only }
    }
}

fn remove(phases: &mut Vec<Phase>, phase: Phase) {
    let index = phases.iter().position(|other| *other == phase);
    phases.swap_remove(index.expect("a test of this phase"));
}

fn state() -> MutexGuard<'static, State> {
    // A failed test gives its slot back while it unwinds.
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}
