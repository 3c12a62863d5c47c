//! How long to wait before a watch that failed is tried again. Pure: time and jitter
//! are arguments.

use std::time::{Duration, Instant};

use kube::runtime::watcher;

const FIRST: Duration = Duration::from_millis(500);

/// While the API server cannot be reached: it is back when it answers, and the status
/// is right within 5 s of that.
const MAX_UNREACHABLE: Duration = Duration::from_secs(2);

/// While it answers and refuses: each attempt costs it something.
const MAX_REFUSED: Duration = Duration::from_secs(30);

/// A watch that expires within this time after it was started again has failed like any
/// other.
const EXPIRED_AGAIN: Duration = Duration::from_secs(30);

/// Why a watch failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No answer, or one that says that the API server does not work.
    Unreachable,
    /// An answer: it may not be watched like this.
    Refused,
    /// The API server has forgotten the version to go on from. A new list is due.
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

/// The failures in a row of one watch.
#[derive(Debug, Default)]
pub struct WatchRetry {
    count: u32,
    last: Option<Failure>,
    /// When a watch that expired was started again, and how often in a row before it
    /// had worked for [`EXPIRED_AGAIN`]: a list that succeeds proves nothing.
    expired: Option<(Instant, u32)>,
}

impl WatchRetry {
    /// Forgets the failures: the watch works.
    pub fn succeeded(&mut self) {
        self.count = 0;
        self.last = None;
    }

    /// Whether the last attempt did not fail like this.
    pub fn is_new(&self, failure: Failure) -> bool {
        self.last != Some(failure)
    }

    /// Whether a watch has expired as each one does now and then: a new list is all that
    /// is needed, and there is nothing to report.
    pub fn is_routine(&self, failure: Failure, now: Instant) -> bool {
        failure == Failure::Expired && self.expired_lately(now) == 0
    }

    /// Counts a failure and returns how long to wait. `jitter` is from 0 to 1.
    ///
    /// Failures of another kind start from the shortest wait again: an API server that
    /// refuses has been reached. So no wait is much longer than what it waits for.
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
            Some(doublings) => {
                let full = FIRST.saturating_mul(1 << doublings.min(16)).min(max);
                full.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
            }
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
    fn an_api_server_that_is_away_is_tried_every_two_seconds_however_long_it_is_away() {
        let waits = waits(Failure::Unreachable, 1000);
        assert_eq!(waits[..4], [500, 1000, 2000, 2000]);
        assert!(waits.iter().all(|wait| *wait <= 2000));
    }

    #[test]
    fn a_refused_watch_is_tried_less_and_less_often() {
        let waits = waits(Failure::Refused, 9);
        let expected = [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000];
        assert_eq!(waits, expected);
    }

    #[test]
    fn an_outage_does_not_lengthen_the_wait_for_what_follows_it() {
        let (mut retry, now) = (WatchRetry::default(), Instant::now());
        for _ in 0..1000 {
            retry.failed(Failure::Unreachable, now, 1.0);
        }
        // It is back, and has forgotten the past.
        assert_eq!(retry.failed(Failure::Expired, now, 1.0), Duration::ZERO);
        // Or it starts, and does not know yet who may do what.
        assert_eq!(retry.failed(Failure::Refused, now, 1.0), FIRST);
    }

    #[test]
    fn a_watch_that_expires_after_every_list_is_started_less_and_less_often() {
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
    fn jitter_takes_away_half_at_most() {
        let now = Instant::now();
        let wait = |jitter| WatchRetry::default().failed(Failure::Refused, now, jitter);
        assert_eq!([wait(0.0), wait(7.0)], [FIRST / 2, FIRST]);
    }

    #[test]
    fn a_success_starts_from_the_shortest_wait_again() {
        let (mut retry, now) = (WatchRetry::default(), Instant::now());
        retry.failed(Failure::Refused, now, 1.0);
        retry.failed(Failure::Refused, now, 1.0);
        retry.succeeded();
        assert_eq!(retry.failed(Failure::Refused, now, 1.0), FIRST);
    }

    #[test]
    fn an_error_is_known_by_its_code() {
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
