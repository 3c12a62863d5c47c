//! How long to wait before a server is asked again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);

/// A wait that doubles while the server fails at once, and starts over when it
/// held a request for a while before it let go: that server works, and has only
/// been replaced.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    /// The wait after a request that failed when the server had held it for
    /// `held`. `jitter` is from 0 to 1, and takes up to half of the wait away:
    /// all the shards of a bot lose their server in the same moment, and should
    /// not come back in the same moment.
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
    fn it_doubles_while_the_server_fails_at_once_and_stays_at_two_seconds() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..7)
            .map(|_| backoff.after(Duration::ZERO, 0.0).as_millis())
            .collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 2000, 2000]);
    }

    #[test]
    fn it_starts_over_after_a_request_that_was_held() {
        let mut backoff = Backoff::new();
        for _ in 0..7 {
            backoff.after(Duration::ZERO, 0.0);
        }
        assert_eq!(backoff.after(Duration::from_secs(30), 0.0), FIRST);
        assert_eq!(backoff.after(Duration::ZERO, 0.0), FIRST * 2);
    }

    #[test]
    fn jitter_takes_up_to_half_of_the_wait() {
        assert_eq!(Backoff::new().after(Duration::ZERO, 1.0), FIRST / 2);
        let mut backoff = Backoff { next: LONGEST };
        assert_eq!(backoff.after(Duration::ZERO, 0.5), LONGEST.mul_f64(0.75));
    }
}
