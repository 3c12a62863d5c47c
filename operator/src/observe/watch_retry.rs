//! The pause before a failed watch is retried. Pure: time and jitter are arguments.

use std::time::{Duration, Instant};

use kube::runtime::watcher;

use crate::pause::{doubled, jittered};

const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// While the API server is unreachable. The status is current within 5 s of its return.
const MAX_UNREACHABLE: Duration = Duration::from_secs(2);

/// While the API server rejects the watch: each attempt is a load.
const MAX_REFUSED: Duration = Duration::from_secs(30);

/// A watch that expires within this time after a restart counts as failed.
const EXPIRED_AGAIN: Duration = Duration::from_secs(30);

/// Why a watch failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The API server did not answer, or answered with a server error.
    Unreachable,
    /// The API server rejected the request.
    Refused,
    /// The API server no longer has the version to continue from. A new list is needed.
    Expired,
}

impl Failure {
    /// Returns what kind of failure an error is.
    pub fn of(error: &watcher::Error) -> Self {
        use watcher::Error as E;
        let code = match error {
            E::InitialListFailed(error) | E::WatchStartFailed(error) | E::WatchFailed(error) => {
                match error {
                    kube::Error::Api(status) => status.code,
                    _ => return Self::Unreachable,
                }
            }
            E::WatchError(status) => status.code,
            _ => return Self::Refused,
        };
        match code {
            410 => Self::Expired,
            400..500 => Self::Refused,
            _ => Self::Unreachable,
        }
    }
}

/// The consecutive failures of a watch.
#[derive(Debug, Default)]
pub struct WatchRetry {
    count: u32,
    last: Option<Failure>,
    /// When an expired watch was restarted, and how often in a row without having worked for
    /// [`EXPIRED_AGAIN`]: a successful list does not count.
    expired: Option<(Instant, u32)>,
}

impl WatchRetry {
    /// Records that the watch works.
    pub fn succeeded(&mut self) {
        self.count = 0;
        self.last = None;
    }

    /// Whether the last attempt did not fail in this way.
    pub fn is_new(&self, failure: Failure) -> bool {
        self.last != Some(failure)
    }

    /// Whether a watch has expired, as each one does occasionally, so that a new list is enough.
    pub fn is_routine(&self, failure: Failure, now: Instant) -> bool {
        failure == Failure::Expired && self.expired_lately(now) == 0
    }

    /// Counts a failure and returns the pause. `jitter` is from 0 to 1.
    ///
    /// Another kind of failure starts with the shortest pause again: an API server that rejects a
    /// watch is reachable.
    pub fn failed(&mut self, failure: Failure, now: Instant, jitter: f64) -> Duration {
        if self.last.replace(failure) != Some(failure) {
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        let (count, max) = match failure {
            Failure::Unreachable => (self.count, MAX_UNREACHABLE),
            Failure::Refused => (self.count, MAX_REFUSED),
            // The first is routine.
            Failure::Expired => (self.expired_lately(now), MAX_REFUSED),
        };
        let wait = match count.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => jittered(doubled(FIRST_PAUSE, doublings, max), jitter),
        };
        if failure == Failure::Expired {
            self.expired = Some((now + wait, count.saturating_add(1)));
        }
        wait
    }

    fn expired_lately(&self, now: Instant) -> u32 {
        let lately = |at| now.saturating_duration_since(at) < EXPIRED_AGAIN;
        let expired = self.expired.filter(|(at, _)| lately(*at));
        expired.map_or(0, |(_, count)| count)
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn waits(failure: Failure, count: usize) -> Vec<u128> {
        let (mut retry, now) = (WatchRetry::default(), Instant::now());
        let waits = std::iter::repeat_with(|| retry.failed(failure, now, 1.0).as_millis());
        waits.take(count).collect()
    }

    #[test]
    fn an_unreachable_api_server_is_retried_every_two_seconds() {
        let waits = waits(Failure::Unreachable, 1000);
        assert_eq!(waits[..4], [500, 1000, 2000, 2000]);
        assert!(waits.iter().all(|wait| *wait <= 2000));
    }

    #[test]
    fn a_rejected_watch_is_retried_less_and_less_often() {
        let waits = waits(Failure::Refused, 9);
        let expected = [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000];
        assert_eq!(waits, expected);
    }

    #[test]
    fn an_outage_does_not_lengthen_later_pauses() {
        let (mut retry, now) = (WatchRetry::default(), Instant::now());
        for _ in 0..1000 {
            retry.failed(Failure::Unreachable, now, 1.0);
        }
        assert_eq!(retry.failed(Failure::Expired, now, 1.0), Duration::ZERO);
        // A starting API server may reject requests.
        assert_eq!(retry.failed(Failure::Refused, now, 1.0), FIRST_PAUSE);
    }

    #[test]
    fn a_watch_that_expires_after_every_list_is_restarted_less_and_less_often() {
        let (mut retry, mut now) = (WatchRetry::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..9 {
            assert_eq!(retry.is_routine(Failure::Expired, now), waits.is_empty());
            let wait = retry.failed(Failure::Expired, now, 1.0);
            waits.push(wait.as_millis());
            now += wait;
            // The list, before the watch expires again.
            retry.succeeded();
        }
        let expected = [0, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000];
        assert_eq!(waits, expected);
        // It has worked since.
        now += EXPIRED_AGAIN;
        assert!(retry.is_routine(Failure::Expired, now));
        assert_eq!(retry.failed(Failure::Expired, now, 1.0), Duration::ZERO);
    }

    #[test]
    fn the_pauses_start_again_after_a_success() {
        let (mut retry, now) = (WatchRetry::default(), Instant::now());
        retry.failed(Failure::Refused, now, 1.0);
        retry.failed(Failure::Refused, now, 1.0);
        retry.succeeded();
        assert_eq!(retry.failed(Failure::Refused, now, 0.0), FIRST_PAUSE / 2);
    }

    #[test]
    fn an_error_is_classified_by_its_code() {
        let coded = |code: u16| {
            let mut status = Status::failure("no", "");
            status.code = code;
            status.boxed()
        };
        for (code, failure) in [
            (401, Failure::Refused),
            (403, Failure::Refused),
            (410, Failure::Expired),
            (429, Failure::Refused),
            (500, Failure::Unreachable),
            (503, Failure::Unreachable),
        ] {
            let of = |error| Failure::of(&error);
            let started = watcher::Error::WatchStartFailed(kube::Error::Api(coded(code)));
            assert_eq!(of(started), failure, "{code}");
            assert_eq!(of(watcher::Error::WatchError(coded(code))), failure);
        }
        let cut = kube::Error::Service("connection refused".into());
        let error = watcher::Error::InitialListFailed(cut);
        assert_eq!(Failure::of(&error), Failure::Unreachable);
    }
}
