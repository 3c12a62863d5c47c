//! Waiting for conditions.

use std::time::{Duration, Instant};

use crate::common::wait::retry;

/// Repeats an attempt until it returns something.
pub(crate) fn wait_for<T>(
    what: &str,
    patience: Duration,
    mut attempt: impl FnMut() -> Option<T>,
) -> T {
    retry(what, patience, || attempt().ok_or_else(String::new))
}

/// Repeats a check until it succeeds.
pub(crate) fn wait_until(what: &str, patience: Duration, mut check: impl FnMut() -> bool) {
    wait_for(what, patience, || check().then_some(()));
}

/// Repeats a check until it finds nothing wrong. Returns how long that took.
pub(crate) fn settle<Findings: IntoIterator<Item = String>>(
    patience: Duration,
    mut check: impl FnMut() -> Findings,
) -> Duration {
    let started = Instant::now();
    retry("no findings", patience, || {
        let wrong: Vec<String> = check().into_iter().collect();
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join("\n"))
        }
    });
    started.elapsed()
}
