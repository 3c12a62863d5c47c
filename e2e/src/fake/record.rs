//! The record of everything that happened at the fake Discord.
//!
//! Pure: all times are durations since the start, by a monotonic clock.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rules::{Breach, Change, Rules, SessionStartLimit, Verdict};

/// The state of the fake Discord.
#[derive(Debug)]
pub struct State {
    /// Grows with every change, so that a reader can wait for the next one.
    version: u64,
    /// Unix time of the start, in milliseconds.
    started: u64,
    rules: Rules,
    /// The status of every response during an outage.
    outage: Option<u16>,
    identifies: Vec<Identify>,
    fetches: Vec<Fetch>,
    resumes: u64,
}

/// The response of `/record`. Times `t` are Unix milliseconds, for people; intervals are
/// measured by a monotonic clock.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Record {
    /// Grows with every change; `/record?after=VERSION` waits for the next one.
    pub version: u64,
    /// The counters.
    pub totals: Totals,
    /// The limits that `/gateway/bot` reports.
    pub session_start_limit: SessionStartLimit,
    /// Every identify, in the order of arrival.
    pub identifies: Vec<Identify>,
    /// The identifies that broke a rule.
    pub violations: Vec<Identify>,
    /// Every request for `/gateway/bot`.
    pub fetches: Vec<Fetch>,
}

/// The counters.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Identifies received.
    pub identifies: usize,
    /// Identifies answered with READY.
    pub ready: usize,
    /// Identifies that broke a rule.
    pub violations: usize,
    /// Sessions resumed.
    pub resumes: u64,
    /// Requests for `/gateway/bot`, whatever the response.
    pub fetches: usize,
}

/// One identify. Its time is that of the last byte of its frame.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Identify {
    /// The time of arrival.
    pub t: u64,
    /// The shard that identified.
    pub shard: u32,
    /// The bucket of the shard.
    pub bucket: u32,
    /// The shard of the previous identify of this bucket.
    pub previous_shard: Option<u32>,
    /// Milliseconds since that identify.
    pub since_last_ms: Option<f64>,
    /// The rule that it broke, if any.
    pub violation: Option<Breach>,
    /// The time at which READY had been sent.
    pub ready_t: Option<u64>,
}

/// A request for `/gateway/bot`.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Fetch {
    /// The time of the response.
    pub t: u64,
    /// The status of the response.
    pub status: u16,
}

/// The index of an identify, which also names the session that it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(usize);

impl State {
    /// An empty record. `started` is the Unix time in milliseconds.
    pub fn new(started: u64, rules: Rules) -> Self {
        Self {
            version: 0,
            started,
            rules,
            outage: None,
            identifies: Vec::new(),
            fetches: Vec::new(),
            resumes: 0,
        }
    }

    /// The number of changes.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The status of every response during an outage.
    pub fn outage(&self) -> Option<u16> {
        self.outage
    }

    /// Begins or ends an outage.
    pub fn set_outage(&mut self, outage: Option<u16>) {
        self.version += 1;
        self.outage = outage;
    }

    /// Judges and records an identify.
    pub fn identify(&mut self, now: Duration, shard: u32) -> (Entry, Option<Breach>) {
        self.version += 1;
        let Verdict {
            bucket,
            previous,
            breach,
        } = self.rules.identify(now, shard);
        self.identifies.push(Identify {
            t: self.unix_ms(now),
            shard,
            bucket,
            previous_shard: previous.map(|(shard, _)| shard),
            since_last_ms: previous.map(|(_, at)| ms(now.saturating_sub(at))),
            violation: breach,
            ready_t: None,
        });
        (Entry(self.identifies.len() - 1), breach)
    }

    /// Records that READY was sent.
    pub fn ready(&mut self, now: Duration, entry: Entry) {
        self.version += 1;
        let at = self.unix_ms(now);
        if let Some(identify) = self.identifies.get_mut(entry.0) {
            identify.ready_t = Some(at);
        }
    }

    /// Records a resumed session. Returns false if there is no such session.
    pub fn resume(&mut self, session_id: &str) -> bool {
        let known = Entry::of_session(session_id)
            .and_then(|entry| self.identifies.get(entry.0))
            .is_some_and(|identify| identify.ready_t.is_some());
        if known {
            self.version += 1;
            self.resumes += 1;
        }
        known
    }

    /// The limits at this moment.
    pub fn session_start_limit(&mut self, now: Duration) -> SessionStartLimit {
        self.rules.session_start_limit(now)
    }

    /// Records the response to a request for `/gateway/bot`.
    pub fn fetched(&mut self, now: Duration, status: u16) {
        self.version += 1;
        let t = self.unix_ms(now);
        self.fetches.push(Fetch { t, status });
    }

    /// Changes the limits.
    pub fn change_limits(&mut self, now: Duration, change: Change) {
        self.version += 1;
        self.rules.change(now, change);
    }

    /// A copy of everything, for a reader.
    pub fn record(&mut self, now: Duration) -> Record {
        let violations = self.identifies.iter().filter(|i| i.violation.is_some());
        let violations: Vec<_> = violations.cloned().collect();
        let ready = |identify: &&Identify| identify.ready_t.is_some();
        Record {
            version: self.version,
            totals: Totals {
                identifies: self.identifies.len(),
                ready: self.identifies.iter().filter(ready).count(),
                violations: violations.len(),
                resumes: self.resumes,
                fetches: self.fetches.len(),
            },
            session_start_limit: self.rules.session_start_limit(now),
            identifies: self.identifies.clone(),
            violations,
            fetches: self.fetches.clone(),
        }
    }

    fn unix_ms(&self, at: Duration) -> u64 {
        self.started + u64::try_from(at.as_millis()).unwrap_or(u64::MAX / 2)
    }
}

impl Entry {
    /// The ID of the session that this identify starts.
    pub fn session_id(self) -> String {
        format!("session-{}", self.0)
    }

    fn of_session(id: &str) -> Option<Self> {
        id.strip_prefix("session-")?.parse().ok().map(Self)
    }
}

/// Milliseconds with three decimals, rounded down: 4999.9 must not become 5000.
fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).floor() / 1e3
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    const STARTED: u64 = 1_764_000_000_000;

    fn state() -> State {
        State::new(STARTED, Rules::new(Duration::from_secs(5), NonZeroU32::MIN))
    }

    #[test]
    fn a_violation_is_reported_with_the_exact_spacing() {
        let mut state = state();
        state.identify(Duration::from_secs(1), 6);
        state.identify(Duration::from_micros(5_999_900), 7);
        let record = state.record(Duration::from_secs(6));
        let violation = &record.violations[0];
        assert_eq!(violation.violation, Some(Breach::TooEarly));
        assert_eq!((violation.shard, violation.t), (7, STARTED + 5_999));
        assert_eq!(violation.previous_shard, Some(6));
        assert_eq!(violation.since_last_ms, Some(4999.9));
        assert_eq!((record.totals.violations, record.version), (1, 2));
    }

    #[test]
    fn only_a_session_that_was_ready_can_be_resumed() {
        let mut state = state();
        let (first, _) = state.identify(Duration::from_secs(1), 0);
        state.ready(Duration::from_secs(1), first);
        let (second, _) = state.identify(Duration::from_secs(2), 1);
        assert!(state.resume(&first.session_id()));
        assert!(!state.resume(&second.session_id()));
        assert!(!state.resume("session-99"));
        assert!(!state.resume("another"));
    }
}
