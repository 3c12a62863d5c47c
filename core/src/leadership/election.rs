//! The leader election over one Lease, as a state machine.
//!
//! Kubernetes is what all agree on: every write carries the version of the
//! Lease that it changes, and the API server refuses it when that is not the
//! present one. Around that, this keeps three promises:
//!
//! - A candidate takes the Lease when its leader has *released* it, or when the
//!   candidate itself has seen it unchanged for the whole duration that the
//!   Lease names, by its own clock. Wall clocks are never compared.
//! - A leader may grant until the moment at which it *sent* its last successful
//!   renewal, plus the duration, less a margin. So its right has ended before
//!   anybody else can have waited it out.
//! - A new leader leaves each bucket alone until its predecessor's last grant
//!   is one spacing old.
//!
//! Clocks may run up to 5 % apart, which is a hundred times more than they do.

use std::time::Duration;

use crate::leadership::term::{ReceivedHandover, Term};
use crate::lease_state::HandoverRecord;
use crate::time::Moment;

/// No Lease may name a longer duration, and one that names none is waited out
/// for so long: nobody knows what a leader of it believes.
pub const MAX_DURATION: Duration = Duration::from_secs(30);

/// The pause after a request that failed, at first and at most.
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

/// A Lease, as it was at one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// A Lease that was deleted and made again has another one.
    pub uid: String,
    /// Changes with every write. It has no order.
    pub version: String,
    /// Who leads, if anybody.
    pub holder: Option<String>,
    /// How long to believe so.
    pub duration: Option<Duration>,
    /// What the last leader handed over.
    pub handover: Option<HandoverRecord>,
    /// The address for forwarded requests, as the leader wrote it.
    pub address: Option<String>,
}

/// What to do next. One request at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read the Lease.
    Read,
    /// Change this version of it, or nothing.
    Write(Write),
    /// Nothing before this moment; for ever if there is none.
    Wait(Option<Moment>),
}

/// A change of one version of the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Of this Lease,
    pub uid: String,
    /// and this version of it.
    pub version: String,
    /// What to change.
    pub kind: Kind,
}

/// What to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Become the holder with this name, and remove what the last leader wrote: the handover
    /// and the fingerprint that makes its published session starts valid.
    Take(String),
    /// Stay the holder.
    Renew,
    /// Release the Lease, with a handover.
    Release,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It succeeded, and this is the Lease after it.
    Lease(Lease),
    /// There is no such Lease.
    Missing,
    /// The version, or the Lease, is another one by now: nothing was changed.
    Conflict,
    /// An error, or no answer: it may have been done, be done later, or never.
    Failed,
}

#[derive(Clone, Debug)]
struct Sighting {
    lease: Lease,
    /// Since when it was not seen to change.
    since: Moment,
}

/// What kind of a request is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Look,
    Take,
    Renew,
    Release,
}

/// A try to take the Lease; it may succeed unseen.
#[derive(Clone, Debug)]
struct Attempt {
    sent: Moment,
    version: String,
    number: u64,
    holder: String,
    handover: ReceivedHandover,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Election {
    config: Config,
    /// The first Lease that was ever seen.
    first_uid: Option<String>,
    seen: Option<Sighting>,
    /// The Lease must be read before anything is decided.
    look: bool,
    term: Option<Term>,
    attempts: u64,
    attempt: Option<Attempt>,
    renew_at: Moment,
    resigned: bool,
    /// What was asked, and when.
    asked: Option<(Asked, Moment)>,
    retry_at: Moment,
    backoff: Duration,
    /// Since the last write that succeeded.
    write_failed: bool,
}

/// By how much two moments of one spacing must be further apart when they are
/// measured by two clocks.
pub fn drift(spacing: Duration) -> Duration {
    spacing / 40
}

impl Election {
    /// One who knows nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            first_uid: None,
            seen: None,
            look: true,
            term: None,
            attempts: 0,
            attempt: None,
            renew_at: Moment::ZERO,
            resigned: false,
            asked: None,
            retry_at: Moment::ZERO,
            backoff: BACKOFF.0,
            write_failed: false,
        }
    }

    /// The term of this one; none when another leads, or it has resigned. Its
    /// right to grant may have run out: then a renewal may bring it back, as
    /// nobody else has led meanwhile.
    pub fn term(&self) -> Option<&Term> {
        self.term.as_ref().filter(|_| !self.resigned)
    }

    /// Whether it has resigned, and there is nothing more to release.
    pub fn has_left(&self) -> bool {
        let nothing = self.term.is_none() && self.attempt.is_none();
        self.resigned && nothing && self.asked.is_none()
    }

    /// Whether it was told to lead no more.
    pub fn has_resigned(&self) -> bool {
        self.resigned
    }

    /// The term that this one still has to end, as it has resigned.
    pub fn releasing(&self) -> Option<&Term> {
        self.term.as_ref().filter(|_| self.resigned)
    }

    /// The Lease as it was last seen.
    pub fn lease(&self) -> Option<&Lease> {
        self.seen.as_ref().map(|seen| &seen.lease)
    }

    /// Returns another leader, if there is one: the holder and its address for forwarded requests.
    pub fn leader(&self) -> Option<(&str, &str)> {
        let lease = self.lease().filter(|_| self.term.is_none())?;
        Some((lease.holder.as_deref()?, lease.address.as_deref()?))
    }

    /// What to do now. A request that it asks for must be answered by
    /// [`Election::answered`] before it asks for another.
    pub fn step(&mut self, now: Moment) -> Step {
        if self.asked.is_some() {
            return Step::Wait(None);
        }
        if now < self.retry_at {
            return Step::Wait(Some(self.retry_at));
        }
        let Some(seen) = self.seen.as_ref().filter(|_| !self.look) else {
            self.look = false;
            self.asked = Some((Asked::Look, now));
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
        let asked = match kind {
            Kind::Take(_) => Asked::Take,
            Kind::Renew => Asked::Renew,
            Kind::Release => Asked::Release,
        };
        self.asked = Some((asked, now));
        Step::Write(Write { uid, version, kind })
    }

    /// What came of the request that [`Election::step`] asked for.
    pub fn answered(&mut self, answer: Answer, now: Moment) {
        let Some((asked, sent)) = self.asked.take() else {
            return;
        };
        match answer {
            Answer::Lease(lease) => {
                // A look that succeeds says nothing about writes that do not.
                if asked != Asked::Look {
                    self.write_failed = false;
                }
                if !self.write_failed {
                    self.backoff = BACKOFF.0;
                }
                self.see(lease, now);
                if matches!(asked, Asked::Take | Asked::Renew) {
                    self.renewed(sent);
                }
            }
            Answer::Missing => {
                self.term = None;
                self.attempt = None;
                self.seen = None;
                self.pause(now);
            }
            // What is there instead decides.
            Answer::Conflict => {
                self.look = true;
                if self.write_failed {
                    self.pause(now);
                }
                self.write_failed = true;
            }
            // Only a look can tell whether a write was done.
            Answer::Failed => {
                self.look = true;
                self.write_failed |= asked != Asked::Look;
                self.pause(now);
            }
        }
    }

    /// The Lease was seen by other means than a request: a watch.
    pub fn noticed(&mut self, lease: Lease, now: Moment) {
        // It may be older than what is under way, than what a leader knows, or
        // than a try of which nobody knows what came.
        let idle = self.asked.is_none() && self.attempt.is_none();
        if idle && self.term.is_none() {
            self.see(lease, now);
        } else {
            self.look = true;
        }
    }

    /// The Lease may have changed unseen: read it.
    pub fn doubt(&mut self) {
        self.look = true;
    }

    /// There is news to write with the next renewal: renew by then.
    pub fn renew_by(&mut self, at: Moment) {
        self.renew_at = self.renew_at.min(at);
    }

    /// Leads no more, and never again. What it has is released.
    pub fn resign(&mut self) {
        self.resigned = true;
        self.retry_at = Moment::ZERO;
    }

    fn see(&mut self, lease: Lease, now: Moment) {
        let same = |seen: &Sighting| seen.lease.uid == lease.uid;
        if !self.seen.as_ref().is_none_or(same) {
            self.term = None;
            self.attempt = None;
        }
        let holds = |holder: &String| lease.holder.as_ref() == Some(holder);
        self.term = self.term.take().filter(|term| holds(&term.holder));
        if let Some(attempt) = self.attempt.take() {
            if holds(&attempt.holder) && attempt.version != lease.version {
                // An answer may say so, or a look, when the answer was lost.
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
        let unchanged =
            |seen: &&Sighting| seen.lease.uid == lease.uid && seen.lease.version == lease.version;
        let since = self
            .seen
            .as_ref()
            .filter(unchanged)
            .map_or(now, |s| s.since);
        self.seen = Some(Sighting { lease, since });
    }

    /// Tries to take the Lease, or tries again: by which name.
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

    /// When the Lease may be taken, if it does not change before.
    fn free_at(&self, seen: &Sighting) -> Moment {
        let Sighting { lease, since } = seen;
        if self.handover(lease).is_some() {
            return *since;
        }
        let named = lease.duration.filter(|named| !named.is_zero());
        let named = named.filter(|_| lease.holder.is_some());
        let duration = named.unwrap_or(MAX_DURATION).max(self.config.duration);
        *since + duration.min(MAX_DURATION)
    }

    fn received_handover(&self, seen: &Sighting, now: Moment) -> ReceivedHandover {
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
