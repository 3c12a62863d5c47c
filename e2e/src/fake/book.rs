//! Everything that happened at the fake Discord, and what became of it.
//!
//! The book is where the rules meet the record. It is pure: all times are given
//! as how long after the start, by a clock that never steps.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::outage::Outage;
use super::rules::{Allowance, Breach, Change, Rules, SessionStartLimit};

/// The state of the fake Discord.
#[derive(Debug)]
pub struct Book {
    /// Grows with every change, so that a reader can wait for the next one.
    version: u64,
    /// Unix time of the start, in milliseconds.
    started: u64,
    rules: Rules,
    outage: Outage,
    identifies: Vec<Identify>,
    fetches: Vec<Fetch>,
    resumes: u64,
}

/// What is read at `/record`. Times `t` are Unix milliseconds, for people;
/// what is measured between them is measured by a clock that never steps.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LeaseObject {
    /// Grows with every change; `/record?after=VERSION` waits for the next one.
    pub version: u64,
    /// What was counted so far.
    pub totals: Totals,
    /// The limits as `/gateway/bot` tells them.
    pub session_start_limit: SessionStartLimit,
    /// How far apart the identifies of one bucket must be.
    pub interval_ms: f64,
    /// What goes wrong on purpose.
    pub outage: Outage,
    /// Every identify, in the order in which they were received.
    pub identifies: Vec<Identify>,
    /// Those that broke a rule, with both times.
    pub violations: Vec<Violation>,
    /// Every request of `/gateway/bot`.
    pub fetches: Vec<Fetch>,
}

/// What was counted so far.
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
    /// Requests of `/gateway/bot`, whatever they were answered.
    pub fetches: usize,
}

/// One identify. Its time is the one when its frame had been read completely.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Identify {
    /// When it was received.
    pub t: u64,
    /// When it was received, in milliseconds after the start.
    pub at_ms: f64,
    /// The shard that identified.
    pub shard: u32,
    /// Of how many.
    pub num_shards: u32,
    /// The bucket of the shard at that time.
    pub bucket: u32,
    /// Milliseconds since the identify before it in this bucket.
    pub since_last_ms: Option<f64>,
    /// The rule that it broke, if it broke one.
    pub violation: Option<Breach>,
    /// When READY had been sent.
    pub ready_t: Option<u64>,
    /// For the violations, which show it to the reader.
    #[serde(skip)]
    previous: Option<(u32, u64)>,
}

/// An identify that broke a rule.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Violation {
    /// The rule.
    pub kind: Breach,
    /// The bucket of both.
    pub bucket: u32,
    /// The shard that broke it.
    pub shard: u32,
    /// When.
    pub t: u64,
    /// The shard that had identified before it.
    pub previous_shard: Option<u32>,
    /// When that was.
    pub previous_t: Option<u64>,
    /// Milliseconds between the two.
    pub since_last_ms: Option<f64>,
}

/// A request of `/gateway/bot`.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Fetch {
    /// When it was answered.
    pub t: u64,
    /// With which status.
    pub status: u16,
}

/// The place of an identify in the book; also the session that it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(usize);

impl Book {
    /// An empty book, begun at the Unix time `started`, in milliseconds.
    pub fn new(started: u64, allowance: Allowance) -> Self {
        Self {
            version: 0,
            started,
            rules: Rules::new(allowance),
            outage: Outage::None,
            identifies: Vec::new(),
            fetches: Vec::new(),
            resumes: 0,
        }
    }

    /// How often the book has changed.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What goes wrong on purpose.
    pub fn outage(&self) -> Outage {
        self.outage
    }

    /// Lets something go wrong on purpose, or no more.
    pub fn set_outage(&mut self, outage: Outage) {
        self.version += 1;
        self.outage = outage;
    }

    /// Judges and notes an identify.
    pub fn identify(
        &mut self,
        now: Duration,
        shard: u32,
        num_shards: u32,
    ) -> (Entry, Option<Breach>) {
        self.version += 1;
        let judgement = self.rules.identify(now, shard);
        let previous = judgement.previous;
        self.identifies.push(Identify {
            t: self.unix_ms(now),
            at_ms: ms(now),
            shard,
            num_shards,
            bucket: judgement.bucket,
            since_last_ms: previous.map(|(_, at)| ms(now.saturating_sub(at))),
            violation: judgement.breach,
            ready_t: None,
            previous: previous.map(|(shard, at)| (shard, self.unix_ms(at))),
        });
        (Entry(self.identifies.len() - 1), judgement.breach)
    }

    /// Notes that READY was sent.
    pub fn ready(&mut self, now: Duration, entry: Entry) {
        self.version += 1;
        let at = self.unix_ms(now);
        if let Some(identify) = self.identifies.get_mut(entry.0) {
            identify.ready_t = Some(at);
        }
    }

    /// Notes that a session wants to go on; false when there is no such session.
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

    /// What `/gateway/bot` tells at this moment.
    pub fn session_start_limit(&mut self, now: Duration) -> SessionStartLimit {
        self.rules.session_start_limit(now)
    }

    /// Notes how a request of `/gateway/bot` was answered.
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

    /// A copy of the whole book, for a reader.
    pub fn record(&mut self, now: Duration) -> LeaseObject {
        let violations: Vec<_> = self.identifies.iter().filter_map(violation).collect();
        let ready = |identify: &&Identify| identify.ready_t.is_some();
        LeaseObject {
            version: self.version,
            totals: Totals {
                identifies: self.identifies.len(),
                ready: self.identifies.iter().filter(ready).count(),
                violations: violations.len(),
                resumes: self.resumes,
                fetches: self.fetches.len(),
            },
            session_start_limit: self.rules.session_start_limit(now),
            interval_ms: ms(self.rules.interval()),
            outage: self.outage,
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
    /// The name of the session that this identify starts.
    pub fn session_id(self) -> String {
        format!("session-{}", self.0)
    }

    fn of_session(id: &str) -> Option<Self> {
        id.strip_prefix("session-")?.parse().ok().map(Self)
    }
}

fn violation(identify: &Identify) -> Option<Violation> {
    let kind = identify.violation?;
    Some(Violation {
        kind,
        bucket: identify.bucket,
        shard: identify.shard,
        t: identify.t,
        previous_shard: identify.previous.map(|(shard, _)| shard),
        previous_t: identify.previous.map(|(_, t)| t),
        since_last_ms: identify.since_last_ms,
    })
}

/// Milliseconds to the microsecond: 4999.9 must not be shown as 5000.
fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).floor() / 1e3
}

#[cfg(test)]
mod tests {
    use super::{Book, LeaseObject};
    use crate::fake::rules::{Allowance, Breach};
    use std::num::NonZeroU32;
    use std::time::Duration;

    const STARTED: u64 = 1_764_000_000_000;

    fn book() -> Book {
        let allowance = Allowance {
            interval: Duration::from_secs(5),
            max_concurrency: NonZeroU32::MIN,
            total: 1000,
            window: Duration::from_secs(86_400),
        };
        Book::new(STARTED, allowance)
    }

    #[test]
    fn a_violation_is_reported_with_both_times() {
        let mut book = book();
        book.identify(Duration::from_secs(1), 6, 8);
        book.identify(Duration::from_micros(5_999_900), 7, 8);
        let record = book.record(Duration::from_secs(6));
        let violation = &record.violations[0];
        assert_eq!(violation.kind, Breach::TooEarly);
        assert_eq!((violation.shard, violation.t), (7, STARTED + 5_999));
        assert_eq!(violation.previous_shard, Some(6));
        assert_eq!(violation.previous_t, Some(STARTED + 1_000));
        assert_eq!(violation.since_last_ms, Some(4999.9));
        assert_eq!(record.totals.violations, 1);
    }

    #[test]
    fn the_record_is_read_as_it_was_written() {
        let mut book = book();
        let (entry, breach) = book.identify(Duration::from_secs(1), 0, 1);
        assert_eq!(breach, None);
        book.ready(Duration::from_secs(2), entry);
        book.fetched(Duration::from_secs(3), 401);
        let record = book.record(Duration::from_secs(4));
        let json = serde_json::to_value(&record).unwrap();
        let read: LeaseObject = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), json);
        assert_eq!(read.totals.ready, 1);
        assert_eq!(json["identifies"][0]["ready_t"], STARTED + 2_000);
        assert_eq!(json["fetches"][0]["status"], 401);
    }

    #[test]
    fn only_a_session_that_was_ready_can_go_on() {
        let mut book = book();
        let (first, _) = book.identify(Duration::from_secs(1), 0, 2);
        book.ready(Duration::from_secs(1), first);
        let (second, _) = book.identify(Duration::from_secs(2), 1, 2);
        assert!(book.resume(&first.session_id()));
        assert!(!book.resume(&second.session_id()));
        assert!(!book.resume("session-99"));
        assert!(!book.resume("another"));
    }

    #[test]
    fn every_change_is_a_new_version() {
        let mut book = book();
        let before = book.version();
        book.identify(Duration::from_secs(1), 0, 1);
        book.fetched(Duration::from_secs(3), 200);
        assert_eq!(book.version(), before + 2);
        book.record(Duration::from_secs(4));
        assert_eq!(book.version(), before + 2);
    }
}
