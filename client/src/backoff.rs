//! The pauses between retries.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);

/// A pause that doubles while requests fail immediately. It starts over after a request that the
/// server held for a while: then the server works, and was only replaced.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    /// Returns the pause after a request that failed when the server had held it for `held`.
    /// `jitter`, from 0 to 1, shortens it by up to half: all shards of a bot lose their server
    /// at the same moment, and should not retry at the same moment.
    pub(crate) fn after(&mut self, held: Duration, jitter: f64) -> Duration {
        if held > LONGEST {
            self.next = FIRST;
        }
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        wait.mul_f64(1.0 - jitter / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Backoff, FIRST, LONGEST};
    use std::time::Duration;

    #[test]
    fn the_pause_doubles_while_requests_fail_immediately_up_to_two_seconds() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..7)
            .map(|_| backoff.after(Duration::ZERO, 0.0).as_millis())
            .collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 2000, 2000]);
    }

    #[test]
    fn the_pause_starts_over_after_a_request_that_was_held() {
        let mut backoff = Backoff::new();
        for _ in 0..7 {
            backoff.after(Duration::ZERO, 0.0);
        }
        assert_eq!(backoff.after(Duration::from_secs(30), 0.0), FIRST);
        assert_eq!(backoff.after(Duration::ZERO, 0.0), FIRST * 2);
    }

    #[test]
    fn jitter_shortens_the_pause_by_up_to_half() {
        assert_eq!(Backoff::new().after(Duration::ZERO, 1.0), FIRST / 2);
        let mut backoff = Backoff { next: LONGEST };
        assert_eq!(backoff.after(Duration::ZERO, 0.5), LONGEST.mul_f64(0.75));
    }
}
