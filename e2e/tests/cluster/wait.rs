//! Waiting for conditions.

use std::thread;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(300);

/// Repeats an attempt until it returns something.
pub(crate) fn wait_for<T>(
    what: &str,
    patience: Duration,
    mut attempt: impl FnMut() -> Option<T>,
) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(
            started.elapsed() < patience,
            "waited {patience:?} for {what}"
        );
        thread::sleep(INTERVAL);
    }
}

/// Repeats a check until it finds nothing wrong. Returns how long that took.
pub(crate) fn settle<Findings: IntoIterator<Item = String>>(
    patience: Duration,
    mut check: impl FnMut() -> Findings,
) -> Duration {
    let started = Instant::now();
    loop {
        let wrong: Vec<String> = check().into_iter().collect();
        if wrong.is_empty() {
            return started.elapsed();
        }
        assert!(
            started.elapsed() < patience,
            "after {patience:?}:\n{}",
            wrong.join("\n")
        );
        thread::sleep(INTERVAL);
    }
}
