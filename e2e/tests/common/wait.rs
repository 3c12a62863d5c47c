//! Repeated attempts.

use std::thread;
use std::time::{Duration, Instant};

/// Repeats an attempt until it succeeds.
pub(crate) fn retry<T>(
    what: &str,
    patience: Duration,
    mut attempt: impl FnMut() -> Result<T, String>,
) -> T {
    let started = Instant::now();
    loop {
        let error = match attempt() {
            Ok(found) => return found,
            Err(error) => error,
        };
        assert!(
            started.elapsed() < patience,
            "waited {patience:?} for {what}: {error}"
        );
        thread::sleep(Duration::from_millis(300));
    }
}
