//! The state of the fake Discord, and Discord's rules for identifying: the spacing and the session
//! start limit.
//!
//! Pure: all times are durations since the start, by a monotonic clock.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::Deserialize;

use super::record::{Breach, Fetch, Identify, Record, Resume, SessionStartLimit, Totals};

/// How many session starts a window has.
const TOTAL: u32 = 1000;

/// The length of a window, from its first session start.
const WINDOW: Duration = Duration::from_hours(24);

/// The state of the fake Discord.
#[derive(Debug)]
pub(super) struct State {
    /// Grows with every change, so that a reader can wait for the next one.
    version: u64,
    /// Unix time of the start, in milliseconds.
    started: u64,
    /// The spacing of the identifies of one bucket.
    interval: Duration,
    max_concurrency: NonZeroU32,
    /// Session starts left in this window.
    remaining: u32,
    /// The end of the open window, if one is open.
    window_ends: Option<Duration>,
    /// The last identify of each bucket: its shard and its time.
    last: BTreeMap<u32, (u32, Duration)>,
    /// The status of every response during an outage.
    outage: Option<u16>,
    identifies: Vec<Identify>,
    fetches: Vec<Fetch>,
    resumes: Vec<Resume>,
    /// The first identify whose session can be resumed.
    first_resumable: usize,
}

/// A change of the limits. Absent fields keep their value.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    remaining: Option<u32>,
    /// Opens a window that ends after so many milliseconds.
    reset_after_ms: Option<u64>,
}

impl State {
    /// The state at the start, which is the Unix time `started` in milliseconds.
    pub(super) fn new(started: u64, interval: Duration, max_concurrency: NonZeroU32) -> Self {
        Self {
            version: 0,
            started,
            interval,
            max_concurrency,
            remaining: TOTAL,
            window_ends: None,
            last: BTreeMap::new(),
            outage: None,
            identifies: Vec::new(),
            fetches: Vec::new(),
            resumes: Vec::new(),
            first_resumable: 0,
        }
    }

    /// The number of changes.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The status of every response during an outage.
    pub(super) fn outage(&self) -> Option<u16> {
        self.outage
    }

    /// Begins or ends an outage.
    pub(super) fn set_outage(&mut self, outage: Option<u16>) {
        self.version += 1;
        self.outage = outage;
    }

    /// Judges and records an identify. One that breaks a rule counts like any other, against the
    /// limit and against the next one. Returns the ID of its session, and the rule that it broke.
    pub(super) fn identify(&mut self, now: Duration, shard: u32) -> (String, Option<Breach>) {
        self.version += 1;
        self.close_window(now);
        let bucket = shard % self.max_concurrency;
        let previous = self.last.insert(bucket, (shard, now));
        let since_last = previous.map(|(_, at)| now.saturating_sub(at));
        let violation = if self.remaining == 0 {
            Some(Breach::NoSessionStartLeft)
        } else if since_last.is_some_and(|since| since < self.interval) {
            Some(Breach::TooEarly)
        } else {
            None
        };
        self.window_ends.get_or_insert(now + WINDOW);
        self.remaining = self.remaining.saturating_sub(1);
        let session_id = format!("session-{}", self.identifies.len());
        self.identifies.push(Identify {
            t: self.unix_ms(now),
            shard,
            bucket,
            previous_shard: previous.map(|(shard, _)| shard),
            since_last_ms: since_last.map(ms),
            violation,
            ready_t: None,
        });
        (session_id, violation)
    }

    /// Records that READY was sent.
    pub(super) fn ready(&mut self, now: Duration, session_id: &str) {
        self.version += 1;
        let at = self.unix_ms(now);
        if let Some(identify) = self.identify_of(session_id) {
            identify.ready_t = Some(at);
        }
    }

    /// Records a resumed session, and returns its shard, if there is such a session.
    pub(super) fn resume(&mut self, now: Duration, session_id: &str) -> Option<u32> {
        let t = self.unix_ms(now);
        let identify = self.identify_of(session_id)?;
        let shard = identify.ready_t.map(|_| identify.shard)?;
        self.version += 1;
        self.resumes.push(Resume { t, shard });
        Some(shard)
    }

    /// Lets no session until now be resumed.
    pub(super) fn forget_sessions(&mut self) {
        self.first_resumable = self.identifies.len();
    }

    /// The limits at this moment.
    pub(super) fn session_start_limit(&mut self, now: Duration) -> SessionStartLimit {
        self.close_window(now);
        let left = self.window_ends.map(|end| end.saturating_sub(now));
        SessionStartLimit {
            total: TOTAL,
            remaining: self.remaining,
            reset_after: u64::try_from(left.unwrap_or_default().as_millis()).unwrap_or(u64::MAX),
            max_concurrency: self.max_concurrency,
        }
    }

    /// Records the response to a request for `/gateway/bot`.
    pub(super) fn fetched(&mut self, now: Duration, status: u16) {
        self.version += 1;
        let t = self.unix_ms(now);
        self.fetches.push(Fetch { t, status });
    }

    /// Changes the limits.
    pub(super) fn change_limits(&mut self, now: Duration, change: Change) {
        self.version += 1;
        self.close_window(now);
        self.remaining = change.remaining.unwrap_or(self.remaining).min(TOTAL);
        if let Some(ms) = change.reset_after_ms {
            self.window_ends = Some(now.saturating_add(Duration::from_millis(ms)));
        }
    }

    /// A copy of everything, for a reader.
    pub(super) fn record(&mut self, now: Duration) -> Record {
        let mut violations = self.identifies.clone();
        violations.retain(|identify| identify.violation.is_some());
        let ready = |identify: &&Identify| identify.ready_t.is_some();
        Record {
            version: self.version,
            totals: Totals {
                identifies: self.identifies.len(),
                ready: self.identifies.iter().filter(ready).count(),
                violations: violations.len(),
                resumes: self.resumes.len(),
                fetches: self.fetches.len(),
            },
            session_start_limit: self.session_start_limit(now),
            identifies: self.identifies.clone(),
            violations,
            resumes: self.resumes.clone(),
            fetches: self.fetches.clone(),
        }
    }

    fn close_window(&mut self, now: Duration) {
        if self.window_ends.is_some_and(|end| end <= now) {
            self.window_ends = None;
            self.remaining = TOTAL;
        }
    }

    fn identify_of(&mut self, session_id: &str) -> Option<&mut Identify> {
        let number: usize = session_id.strip_prefix("session-")?.parse().ok()?;
        self.identifies
            .get_mut(number)
            .filter(|_| number >= self.first_resumable)
    }

    fn unix_ms(&self, at: Duration) -> u64 {
        self.started + u64::try_from(at.as_millis()).unwrap_or(u64::MAX / 2)
    }
}

/// Milliseconds with three decimals, rounded down: 4999.9 must not become 5000.
fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).floor() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTED: u64 = 1_764_000_000_000;

    fn s(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn state(max_concurrency: u32) -> State {
        let max_concurrency = NonZeroU32::new(max_concurrency).unwrap();
        State::new(STARTED, s(5.0), max_concurrency)
    }

    #[test]
    fn an_identify_within_five_seconds_is_too_early_and_delays_the_next() {
        let mut state = state(1);
        let breach = [(10.0, 0), (15.0, 1), (19.9999, 2), (24.0, 3)]
            .map(|(at, shard)| state.identify(s(at), shard).1);
        let early = Some(Breach::TooEarly);
        assert_eq!(breach, [None, None, early, early]);
        let record = state.record(s(24.0));
        assert_eq!(record.session_start_limit.remaining, TOTAL - 4);
        assert_eq!((record.totals.violations, record.version), (2, 4));
        // The exact spacing is reported.
        let violation = &record.violations[0];
        assert_eq!((violation.shard, violation.t), (2, STARTED + 19_999));
        assert_eq!(violation.previous_shard, Some(1));
        assert_eq!(violation.since_last_ms, Some(4999.9));
    }

    #[test]
    fn buckets_are_independent() {
        let mut state = state(2);
        let breach = [(0.0, 0), (0.1, 1), (5.0, 2), (5.0, 3)]
            .map(|(at, shard)| state.identify(s(at), shard).1);
        assert_eq!(breach, [None, None, None, Some(Breach::TooEarly)]);
        let identifies = state.record(s(5.0)).identifies;
        let buckets: Vec<_> = identifies.iter().map(|identify| identify.bucket).collect();
        assert_eq!(buckets, [0, 1, 0, 1]);
    }

    #[test]
    fn without_a_session_start_an_identify_breaks_the_limit_until_the_window_ends() {
        let mut state = state(1);
        let change = serde_json::from_str(r#"{"remaining": 0, "reset_after_ms": 1500}"#).unwrap();
        state.change_limits(s(10.0), change);
        let limit = state.session_start_limit(s(11.0));
        assert_eq!((limit.remaining, limit.reset_after), (0, 500));
        let (_, breach) = state.identify(s(11.0), 0);
        assert_eq!(breach, Some(Breach::NoSessionStartLeft));
        assert_eq!(state.identify(s(20.0), 0).1, None);
        let limit = state.session_start_limit(s(80.0));
        let left = (limit.remaining, limit.reset_after);
        assert_eq!(left, (TOTAL - 1, 86_340_000));
    }

    #[test]
    fn only_a_session_that_was_ready_can_be_resumed() {
        let mut state = state(1);
        let (first, _) = state.identify(s(1.0), 0);
        state.ready(s(1.0), &first);
        let (second, _) = state.identify(s(2.0), 1);
        let mut resume = |id| state.resume(s(3.0), id);
        let resumed = [&*first, &second, "session-99", "another"].map(&mut resume);
        assert_eq!(resumed, [Some(0), None, None, None]);
        let resumes = state.record(s(3.0)).resumes;
        let t = STARTED + 3000;
        assert_eq!(resumes, [Resume { t, shard: 0 }]);
        state.forget_sessions();
        assert_eq!(state.resume(s(4.0), &first), None);
    }
}
