//! The leader election over one Lease, as a state machine.
//!
//! The API server provides the consensus: every write names the version of the Lease that it
//! changes, and the API server refuses it if that is not the current one. On this basis, the
//! election guarantees:
//!
//! - A candidate takes the Lease only if its leader has *released* it, or if the candidate itself
//!   has observed it unchanged for the whole duration that the Lease names, by its own clock. Wall
//!   clocks are never compared.
//! - A leader may grant until the time at which it *sent* its last successful renewal, plus the
//!   duration, less a margin. So its right to grant expires before another candidate can take the
//!   Lease.
//! - A new leader grants nothing from a bucket until its predecessor's last grant is one spacing
//!   old.
//!
//! The rates of two clocks may differ by up to 5 %, a hundred times more than they do in practice.

mod step;

use std::time::Duration;

pub use crate::leadership::election::step::{Failure, Kind, Lease, Request, Step, Write};
use crate::leadership::term::{ReceivedHandover, Term};
use crate::lease_state::HandoverRecord;
use crate::time::Moment;

/// The longest duration of a Lease. A Lease that names none is waited out for this long, because
/// the duration that its leader uses is unknown.
pub const MAX_DURATION: Duration = Duration::from_secs(30);

/// The first and the longest pause after a failed request.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(1));

/// The settings of the election.
#[derive(Clone, Debug)]
pub struct Config {
    /// The identity of this process. It must change with each start, because the process before
    /// may have grants in flight. As the holder, the number of the term is appended, so that
    /// nothing old, late or copied is mistaken for the current term.
    pub identity: String,
    /// How long a leader is considered the leader after its last renewal, at most
    /// [`MAX_DURATION`].
    pub duration: Duration,
    /// The time between two renewals.
    pub renew_every: Duration,
    /// How much earlier than the Lease the right to grant expires.
    pub margin: Duration,
    /// The time between two grants of one bucket.
    pub spacing: Duration,
}

impl Config {
    /// Returns the settings for a Lease of this duration.
    pub fn new(identity: String, duration: Duration, spacing: Duration) -> Self {
        Self {
            identity,
            duration,
            renew_every: renew_every(duration),
            margin: margin(duration),
            spacing,
        }
    }
}

/// Returns how often a Lease of this duration is renewed: a renewal may fail, and be repeated.
pub fn renew_every(duration: Duration) -> Duration {
    duration / 3
}

/// Returns how much earlier than the Lease the right to grant expires: twice the assumed
/// difference between two clocks, 5 %.
pub fn margin(duration: Duration) -> Duration {
    duration / 10
}

/// The Lease as it was last observed.
#[derive(Clone, Debug)]
struct Observation {
    lease: Lease,
    /// Since when it was not observed to change.
    since: Moment,
}

/// An attempt to take the Lease, which may succeed without a response.
#[derive(Clone, Debug)]
struct Attempt {
    sent: Moment,
    version: String,
    number: u64,
    holder: String,
    handover: ReceivedHandover,
}

/// The state machine of one candidate.
#[derive(Clone, Debug)]
pub struct Election {
    config: Config,
    /// The UID of the first Lease that was observed.
    first_uid: Option<String>,
    seen: Option<Observation>,
    /// The Lease must be read before anything is decided.
    must_read: bool,
    term: Option<Term>,
    attempts: u64,
    attempt: Option<Attempt>,
    renew_at: Moment,
    resigned: bool,
    /// The request in flight, and when it was sent.
    in_flight: Option<(Request, Moment)>,
    retry_at: Moment,
    backoff: Duration,
    /// Whether a write has failed since the last success of one.
    write_failed: bool,
}

/// Returns by how much a spacing is extended if two clocks measure it.
pub fn drift(spacing: Duration) -> Duration {
    spacing / 40
}

impl Election {
    /// Returns a candidate that has not read the Lease yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            first_uid: None,
            seen: None,
            must_read: true,
            term: None,
            attempts: 0,
            attempt: None,
            renew_at: Moment::ZERO,
            resigned: false,
            in_flight: None,
            retry_at: Moment::ZERO,
            backoff: BACKOFF.0,
            write_failed: false,
        }
    }

    /// Returns the term of this candidate; none if it is not the leader or has resigned. Its right
    /// to grant may have expired; a renewal restores it, because no other candidate has been the
    /// leader since.
    pub fn term(&self) -> Option<&Term> {
        self.term.as_ref().filter(|_| !self.resigned)
    }

    /// Returns whether it has resigned and has nothing left to release.
    pub fn has_left(&self) -> bool {
        let nothing = self.term.is_none() && self.attempt.is_none();
        self.resigned && nothing && self.in_flight.is_none()
    }

    /// Returns whether [`Election::resign`] was called.
    pub fn has_resigned(&self) -> bool {
        self.resigned
    }

    /// Returns the term that a resigned candidate has not released yet.
    pub fn releasing(&self) -> Option<&Term> {
        self.term.as_ref().filter(|_| self.resigned)
    }

    /// Returns the Lease as it was last observed.
    pub fn lease(&self) -> Option<&Lease> {
        self.seen.as_ref().map(|seen| &seen.lease)
    }

    /// Returns another leader, if there is one: the holder and its address for forwarded requests.
    pub fn leader(&self) -> Option<(&str, &str)> {
        let lease = self.lease().filter(|_| self.term.is_none())?;
        Some((lease.holder.as_deref()?, lease.address.as_deref()?))
    }

    /// Returns what to do now. After a request, it returns no other until
    /// [`Election::answered`] is called.
    pub fn step(&mut self, now: Moment) -> Step {
        if self.in_flight.is_some() {
            return Step::Wait(None);
        }
        if now < self.retry_at {
            return Step::Wait(Some(self.retry_at));
        }
        let Some(seen) = self.seen.as_ref().filter(|_| !self.must_read) else {
            self.must_read = false;
            self.in_flight = Some((Request::Read, now));
            return Step::Read;
        };
        let Lease { uid, version, .. } = seen.lease.clone();
        let kind = match (&self.term, self.resigned) {
            (Some(_), true) => Kind::Release,
            (Some(_), false) if self.renew_at <= now => Kind::Renew,
            (Some(_), false) => return Step::Wait(Some(self.renew_at)),
            (None, true) => return Step::Wait(None),
            (None, false) => match self.free_at(seen) {
                free_at if free_at > now => return Step::Wait(Some(free_at)),
                _ => Kind::Take(self.attempt(now)),
            },
        };
        self.in_flight = Some((kind.request(), now));
        Step::Write(Write { uid, version, kind })
    }

    /// Takes the result of the request that [`Election::step`] returned: the Lease after it, or why
    /// it failed.
    pub fn answered(&mut self, answer: Result<Lease, Failure>, now: Moment) {
        let Some((request, sent)) = self.in_flight.take() else {
            return;
        };
        match answer {
            Ok(lease) => {
                // A successful read is no evidence that writes succeed.
                if request != Request::Read {
                    self.write_failed = false;
                }
                if !self.write_failed {
                    self.backoff = BACKOFF.0;
                }
                self.see(lease, now);
                if matches!(request, Request::Take | Request::Renew) {
                    self.renewed(sent);
                }
            }
            Err(Failure::Missing) => {
                self.term = None;
                self.attempt = None;
                self.seen = None;
                self.pause(now);
            }
            // The next step depends on the current Lease.
            Err(Failure::Conflict) => {
                self.must_read = true;
                if self.write_failed {
                    self.pause(now);
                }
                self.write_failed = true;
            }
            // Only a read shows whether the write was executed.
            Err(Failure::Denied(_) | Failure::Other(_)) => {
                self.must_read = true;
                self.write_failed |= request != Request::Read;
                self.pause(now);
            }
        }
    }

    /// Takes the Lease as a watch reported it.
    pub fn noticed(&mut self, lease: Lease, now: Moment) {
        // It may be older than a request in flight, than what a leader knows, or than an attempt
        // whose result is unknown.
        let idle = self.in_flight.is_none() && self.attempt.is_none();
        if idle && self.term.is_none() {
            self.see(lease, now);
        } else {
            self.must_read = true;
        }
    }

    /// Reads the Lease next, because it may have changed unobserved.
    pub fn doubt(&mut self) {
        self.must_read = true;
    }

    /// Renews the Lease at `at` or earlier, because there is a new state to publish.
    pub fn renew_by(&mut self, at: Moment) {
        self.renew_at = self.renew_at.min(at);
    }

    /// Gives up the leadership and the candidacy for good. The Lease is released.
    pub fn resign(&mut self) {
        self.resigned = true;
        self.retry_at = Moment::ZERO;
    }

    fn see(&mut self, lease: Lease, now: Moment) {
        let same = |seen: &Observation| seen.lease.uid == lease.uid;
        if !self.seen.as_ref().is_none_or(same) {
            self.term = None;
            self.attempt = None;
        }
        let holds = |holder: &String| lease.holder.as_ref() == Some(holder);
        self.term = self.term.take().filter(|term| holds(&term.holder));
        if let Some(attempt) = self.attempt.take() {
            if holds(&attempt.holder) && attempt.version != lease.version {
                // A response shows it, or a read if the response was lost.
                self.term = Some(Term {
                    number: attempt.number,
                    holder: attempt.holder,
                    until: Moment::ZERO,
                    handover: attempt.handover,
                });
                self.renewed(attempt.sent);
            } else if attempt.version == lease.version {
                self.attempt = Some(attempt);
            }
        }
        self.first_uid.get_or_insert_with(|| lease.uid.clone());
        let unchanged = |seen: &&Observation| {
            seen.lease.uid == lease.uid && seen.lease.version == lease.version
        };
        let since = self
            .seen
            .as_ref()
            .filter(unchanged)
            .map_or(now, |s| s.since);
        self.seen = Some(Observation { lease, since });
    }

    /// Starts or repeats an attempt to take the Lease. Returns the holder to write.
    fn attempt(&mut self, now: Moment) -> String {
        let Some(seen) = &self.seen else {
            return self.config.identity.clone();
        };
        let version = &seen.lease.version;
        if let Some(attempt) = self.attempt.as_ref().filter(|a| a.version == *version) {
            return attempt.holder.clone();
        }
        self.attempts += 1;
        let holder = format!("{}-{}", self.config.identity, self.attempts);
        self.attempt = Some(Attempt {
            sent: now,
            version: version.clone(),
            number: self.attempts,
            holder: holder.clone(),
            handover: self.received_handover(seen, now),
        });
        holder
    }

    fn renewed(&mut self, sent: Moment) {
        if let Some(term) = &mut self.term {
            let right = self.config.duration.saturating_sub(self.config.margin);
            let until = sent + right;
            term.until = term.until.max(until);
            self.renew_at = sent + self.config.renew_every;
        }
    }

    /// Returns what the last leader handed over, if it is valid.
    fn handover<'a>(&self, lease: &'a Lease) -> Option<&'a HandoverRecord> {
        let record = lease.handover.as_ref().filter(|_| lease.holder.is_none())?;
        let is_valid = match record {
            HandoverRecord::NeverLed => self.first_uid.as_ref() == Some(&lease.uid),
            HandoverRecord::Released(handover) => handover.lease == lease.uid,
        };
        is_valid.then_some(record)
    }

    /// Returns when the Lease may be taken, if it does not change before.
    fn free_at(&self, seen: &Observation) -> Moment {
        let Observation { lease, since } = seen;
        if self.handover(lease).is_some() {
            return *since;
        }
        let named = lease.duration.filter(|named| !named.is_zero());
        let named = named.filter(|_| lease.holder.is_some());
        let duration = named.unwrap_or(MAX_DURATION).max(self.config.duration);
        *since + duration.min(MAX_DURATION)
    }

    fn received_handover(&self, seen: &Observation, now: Moment) -> ReceivedHandover {
        let drift = drift(self.config.spacing);
        let all_free_at = now + self.config.spacing + drift;
        match self.handover(&seen.lease) {
            Some(HandoverRecord::NeverLed) => ReceivedHandover::NONE,
            // The waits count from when they were sent, which was before they were seen. If the
            // own spacing is longer, it applies to the last grants, too.
            Some(HandoverRecord::Released(handover)) => {
                let longer = self.config.spacing.saturating_sub(handover.spacing);
                let free_at = |wait: &Duration| seen.since + *wait + longer + drift;
                ReceivedHandover {
                    free_at: handover.waits.iter().map(free_at).collect(),
                    all_free_at,
                    uncounted: handover.uncounted,
                }
            }
            None => ReceivedHandover::unknown(all_free_at),
        }
    }

    fn pause(&mut self, now: Moment) {
        self.retry_at = now + self.backoff;
        self.backoff = (self.backoff * 2).min(BACKOFF.1);
    }
}

#[cfg(test)]
mod tests;
