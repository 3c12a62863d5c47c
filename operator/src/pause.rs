//! The length of pauses before retries.

use std::time::Duration;

/// Returns a pause that has doubled this many times, up to `max`.
pub(crate) fn doubled(first: Duration, doublings: u32, max: Duration) -> Duration {
    first.saturating_mul(1 << doublings.min(16)).min(max)
}

/// Shortens a pause by up to half, so that what failed together is not retried together. `jitter`
/// is from 0, the shortest pause, to 1.
pub(crate) fn jittered(pause: Duration, jitter: f64) -> Duration {
    pause.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_shortens_a_pause_by_at_most_half() {
        let pauses = [0.0, 0.5, 7.0].map(|jitter| jittered(Duration::from_secs(4), jitter));
        assert_eq!(pauses, [2, 3, 4].map(Duration::from_secs));
    }
}
