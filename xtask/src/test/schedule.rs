//! Which suites run at the same time: one on the machine and one on the cluster, unless one of the
//! two measures times and the other needs the processors.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::report::{self, Outcome, Verdict};
use super::suites::{Load, Suite};

/// The suites of a run, and their progress.
pub(super) struct Schedule {
    /// The suites of the machine and of the cluster.
    suites: [Vec<&'static Suite>; 2],
    board: Mutex<Board>,
    changed: Condvar,
}

#[derive(Default)]
struct Board {
    running: Vec<&'static Suite>,
    outcomes: Vec<Outcome>,
    is_stopped: bool,
}

impl Schedule {
    /// Returns a schedule of `suites`, each of which comes after the suites that it needs.
    pub(super) fn new(suites: [Vec<&'static Suite>; 2]) -> Self {
        Self {
            suites,
            board: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Runs all suites, and returns their outcomes in the order of the suites. If `run`
    /// returns nothing, no other suite starts.
    pub(super) fn run(
        &self,
        run: impl Fn(&'static Suite) -> Option<Outcome> + Sync,
    ) -> Vec<Outcome> {
        thread::scope(|scope| {
            for suites in &self.suites {
                let run = &run;
                scope.spawn(move || suites.iter().for_each(|suite| self.suite(suite, run)));
            }
        });
        let mut outcomes = std::mem::take(&mut self.lock().outcomes);
        let position = |name| {
            self.suites
                .iter()
                .flatten()
                .position(|suite| suite.name == name)
        };
        outcomes.sort_by_key(|outcome| position(outcome.suite));
        outcomes
    }

    fn suite(&self, suite: &'static Suite, run: impl Fn(&'static Suite) -> Option<Outcome> + Sync) {
        let outcome = |verdict| Outcome {
            suite: suite.name,
            seconds: 0,
            verdict,
        };
        let board = self.lock();
        let waiting = self.changed.wait_while(board, |board| !board.is_due(suite));
        let mut board = waiting.unwrap_or_else(PoisonError::into_inner);
        if board.is_stopped {
            return;
        }
        let result = match report::unmet(suite.needs, &board.outcomes) {
            Some(need) => Some(outcome(Verdict::NotRun(need))),
            None => {
                board.running.push(suite);
                drop(board);
                let result = thread::scope(|scope| scope.spawn(|| run(suite)).join());
                let panicked = |_| Some(outcome(Verdict::Failed("it panicked".to_owned())));
                let outcome = result.unwrap_or_else(panicked);
                board = self.lock();
                board.running.retain(|running| running.name != suite.name);
                outcome
            }
        };
        board.is_stopped |= result.is_none();
        board.outcomes.extend(result);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Board {
    /// Returns whether the suites that this one needs have ended, and it may run beside the
    /// running ones.
    fn is_due(&self, suite: &Suite) -> bool {
        let has_ended = |need: &&str| self.outcomes.iter().any(|it| it.suite == *need);
        let fits = |running: &&Suite| running.load.fits(suite.load);
        self.is_stopped || suite.needs.iter().all(has_ended) && self.running.iter().all(fits)
    }
}

impl Load {
    fn fits(self, other: Self) -> bool {
        match (self, other) {
            (Self::Measures, other) | (other, Self::Measures) => other == Self::Waits,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::test::suites;

    fn passed(suite: &'static Suite) -> Outcome {
        Outcome {
            suite: suite.name,
            seconds: 0,
            verdict: Verdict::Passed,
        }
    }

    #[test]
    fn all_suites_run_each_after_its_needs_and_none_that_measures_beside_a_busy_one() {
        let (running, ended) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let suites = suites::chosen(&[]);
        let outcomes = Schedule::new(suites.clone()).run(|suite| {
            let mut now = running.lock().unwrap();
            let ended_now = ended.lock().unwrap().clone();
            assert!(suite.needs.iter().all(|need| ended_now.contains(need)));
            for other in now.iter() {
                let other: &&Suite = other;
                let measures = [suite.load, other.load].contains(&Load::Measures);
                let waits = [suite.load, other.load].contains(&Load::Waits);
                assert!(!measures || waits, "{} beside {}", suite.name, other.name);
            }
            now.push(suite);
            drop(now);
            thread::yield_now();
            running.lock().unwrap().retain(|it| it.name != suite.name);
            ended.lock().unwrap().push(suite.name);
            Some(passed(suite))
        });
        let names: Vec<_> = outcomes.iter().map(|outcome| outcome.suite).collect();
        let expected: Vec<_> = suites.iter().flatten().map(|suite| suite.name).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn after_a_failure_only_what_needs_it_is_left_out() {
        let outcomes = Schedule::new(suites::chosen(&[])).run(|suite| {
            assert_ne!(suite.name, "images", "a suite that panics has failed");
            Some(passed(suite))
        });
        let not_run = outcomes
            .iter()
            .filter(|it| matches!(it.verdict, Verdict::NotRun(_)));
        let not_run: Vec<_> = not_run.map(|outcome| outcome.suite).collect();
        let expected = ["chart", "operator", "demo", "chart-on-node", "cluster"];
        assert_eq!(not_run, expected);
    }

    #[test]
    fn after_an_interrupt_nothing_starts() {
        let started = AtomicUsize::new(0);
        let outcomes = Schedule::new(suites::chosen(&[])).run(|_| {
            started.fetch_add(1, Ordering::Relaxed);
            None
        });
        assert!(outcomes.is_empty());
        assert!(started.into_inner() <= 2);
    }
}
