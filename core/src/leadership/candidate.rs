//! One pod's part in the election, without IO.
//!
//! The candidate owns the [`Election`], the Lease as it was last read, what was written to it,
//! and the [`LeadershipState`] that follows. Its caller owns the clocks and the network:
//!
//! 1. [`Candidate::step`] returns the next [`Action`].
//! 2. The caller executes it and reports the result: [`Candidate::answered`] for a request,
//!    [`Candidate::settled`] for a handover, [`Candidate::noticed`] and
//!    [`Candidate::watch_ended`] for the watch.
//! 3. After each call, [`Candidate::state`] is the state to publish, and [`Candidate::events`]
//!    are the events to log and count.
//!
//! There is at most one request at a time: while one is in flight, `step` returns
//! [`Action::Wait`]. [`Candidate::resign`] and [`Candidate::publish`] may be called at any time.
//! JSON is passed as the API server sends and receives it, so a simulation drives the candidate
//! exactly as the server's `leadership::candidate_task` does.

mod action;
mod answer;
mod derive_state;
mod event;

use std::net::SocketAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

pub use crate::leadership::candidate::action::Action;
pub use crate::leadership::candidate::event::Event;
pub use crate::leadership::election::Request;
use crate::leadership::election::{Config, Election, Failure, Kind, Step, Write};
use crate::leadership::leader_health::Renewal;
use crate::leadership::lease_object::{self, LeaseObject};
use crate::leadership::state::LeadershipState;
use crate::leadership::term::Term;
use crate::lease_state::Handover;
use crate::lease_state::last_known::PublishedState;
use crate::time::Moment;

/// The least time between a write and one for a change of the published state.
const PUBLISH_PAUSE: Duration = Duration::from_secs(2);

/// The same after the first write of a term. It doubles with each write: a new leader knows its
/// state a moment after it took the Lease, and until it is published, the queue is not Ready.
const FIRST_PUBLISH_PAUSE: Duration = Duration::from_millis(100);

/// The pause after a watch ended.
const WATCH_PAUSE: Duration = Duration::from_secs(2);

/// The maximum age of published session starts that a new leader uses. The clocks of two nodes
/// differ, so they may also be from the future, by as much.
const MAX_AGE: SignedDuration = SignedDuration::from_mins(5);

/// A request in flight, or about to be sent.
#[derive(Debug)]
enum Pending {
    /// A request was sent; with the state that a renewal publishes.
    Sent(Request, Option<PublishedState>),
    /// The queue task was asked for the handover that this write publishes.
    Settling(Write),
    /// The handover is ready to be written.
    Settled(Write, Handover),
}

/// One pod that takes part in the election.
#[derive(Debug)]
pub struct Candidate {
    config: Config,
    /// The address for forwarded requests: `IP:PORT`.
    address: String,
    election: Election,
    pending: Option<Pending>,
    /// The Lease as it was last read.
    last: Option<LeaseObject>,
    last_at: Moment,
    /// The last renewal by another pod.
    renewal: Option<Renewal>,
    /// The Lease before this pod took it, if its last renewal was recent.
    inherited: Option<LeaseObject>,
    watching: bool,
    /// No watch starts before this.
    watch_at: Moment,
    /// What the leader publishes with its next renewal.
    published: PublishedState,
    /// The published state on the Lease; none unless the last write was a renewal.
    written: Option<PublishedState>,
    written_at: Moment,
    /// The successful renewals of this term.
    renewals: u32,
    /// The kind of request that failed last and has not succeeded since.
    failing: Option<Request>,
    /// Whether the right to grant has expired.
    expired: bool,
    /// Whether the Lease was read at least once.
    ready: bool,
    /// Since when each response to a resigned candidate was that the Lease is gone or forbidden.
    gone_since: Option<Moment>,
    gone: bool,
    state: LeadershipState,
    events: Vec<Event>,
}

impl Candidate {
    /// Returns a candidate that has not read the Lease yet. Once it is the leader, forwarded
    /// requests are sent to `address`.
    pub fn new(config: Config, address: SocketAddr, published: PublishedState) -> Self {
        Self {
            election: Election::new(config.clone()),
            config,
            address: address.to_string(),
            pending: None,
            last: None,
            last_at: Moment::ZERO,
            renewal: None,
            inherited: None,
            watching: false,
            watch_at: Moment::ZERO,
            published,
            written: None,
            written_at: Moment::ZERO,
            renewals: 0,
            failing: None,
            expired: false,
            ready: false,
            gone_since: None,
            gone: false,
            state: LeadershipState::UNKNOWN,
            events: Vec::new(),
        }
    }

    /// Returns the leadership state, as of the last call with a time.
    pub fn state(&self) -> &LeadershipState {
        &self.state
    }

    /// Returns the last observed renewal of the Lease by another pod.
    pub fn renewal(&self) -> Option<&Renewal> {
        self.renewal.as_ref()
    }

    /// Returns the events since the last call, oldest first.
    pub fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Returns the term that a resigned candidate has not released yet.
    pub fn releasing(&self) -> Option<&Term> {
        self.election.releasing()
    }

    /// Returns whether the candidate has resigned and released its term, if it had one.
    pub fn has_left(&self) -> bool {
        self.election.has_left()
    }

    /// Returns whether the candidate has resigned and its Lease stays deleted or forbidden: the
    /// GatewayQueue was deleted, and there is no next leader.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Returns whether [`Candidate::resign`] was called.
    pub fn has_resigned(&self) -> bool {
        self.election.has_resigned()
    }

    /// Returns what to do now. `wall` is the wall clock's time: it is written to the Lease for
    /// people, and limits the age of the published session starts that a new leader uses.
    pub fn step(&mut self, now: Moment, wall: Timestamp) -> Action {
        self.update(now);
        match self.pending.take() {
            Some(Pending::Settled(write, handover)) => {
                self.pending = Some(Pending::Sent(Request::Release, None));
                return Action::Patch(lease_object::release(&write, handover, wall));
            }
            Some(pending) => {
                self.pending = Some(pending);
                return Action::Wait(None);
            }
            None => {}
        }
        if self.has_changes_to_publish() {
            let factor = 1 << self.renewals.min(10);
            let pause = PUBLISH_PAUSE.min(FIRST_PUBLISH_PAUSE * factor);
            self.election.renew_by(self.written_at + pause);
        }
        match self.election.step(now) {
            Step::Read => {
                self.pending = Some(Pending::Sent(Request::Read, None));
                Action::Read
            }
            Step::Write(write) => self.write(write, now, wall),
            Step::Wait(until) => self.wait(until, now),
        }
    }

    /// Takes the result of a request: the Lease after it, or why it failed.
    pub fn answered(&mut self, answer: Result<LeaseObject, Failure>, now: Moment) {
        let Some(Pending::Sent(request, published)) = self.pending.take() else {
            return;
        };
        if answer.is_ok() && request != Request::Read {
            self.written = published;
            self.written_at = now;
            self.renewals = match request {
                Request::Renew => self.renewals.saturating_add(1),
                _ => 0,
            };
        }
        self.conclude(request, answer, now);
    }

    /// Takes the handover from the queue task; none if it did not answer in time. In that case
    /// the candidate reads the Lease, and then requests the handover once more.
    pub fn settled(&mut self, handover: Option<Handover>, now: Moment) {
        let Some(Pending::Settling(write)) = self.pending.take() else {
            return;
        };
        match handover {
            Some(handover) => self.pending = Some(Pending::Settled(write, handover)),
            None => {
                self.events.push(Event::HandoverDelayed);
                let failure = Failure::Other("no handover".to_owned());
                self.election.answered(Err(failure), now);
                self.update(now);
            }
        }
    }

    /// Takes a change of the Lease that the watch reported.
    pub fn noticed(&mut self, lease_object: LeaseObject, now: Moment) {
        let lease = lease_object.lease.clone();
        self.observe(lease_object, now, now);
        self.election.noticed(lease, now);
        self.update(now);
    }

    /// Notes that the watch ended: the Lease may have changed unseen.
    pub fn watch_ended(&mut self, now: Moment) {
        self.watching = false;
        self.watch_at = now + WATCH_PAUSE;
        self.election.doubt();
    }

    /// Replaces the state that the leader publishes with its next renewal.
    pub fn publish(&mut self, published: &PublishedState) {
        if self.published != *published {
            self.published = published.clone();
        }
    }

    /// Gives up the leadership, or the candidacy, for good.
    pub fn resign(&mut self, now: Moment) {
        self.election.resign();
        self.update(now);
    }

    fn write(&mut self, write: Write, now: Moment, wall: Timestamp) -> Action {
        let duration = self.config.duration;
        let (request, published, patch) = match (&write.kind, &self.last) {
            (Kind::Take(holder), Some(last)) => {
                let age = last.renewed.map(|at| wall.duration_since(at).abs());
                let is_recent = age.is_some_and(|age| age < MAX_AGE);
                self.inherited = is_recent.then(|| last.clone());
                let mut patch = last.take(&write, holder, &self.address, duration, wall);
                last.remove_obsolete_reports(&mut patch, holder);
                (Request::Take, None, patch)
            }
            (Kind::Take(_), None) => {
                // Unreachable: the election takes only a Lease that it has seen.
                self.conclude(Request::Take, Err(Failure::Missing), now);
                return Action::Wait(Some(now));
            }
            (Kind::Renew, _) => {
                let published = self.published.clone();
                let annotations = published.annotations();
                let mut patch =
                    lease_object::renew(&write, &annotations, &self.address, duration, wall);
                if let (Some(last), Some(term)) = (&self.last, self.election.term()) {
                    last.remove_obsolete_reports(&mut patch, &term.holder);
                }
                (Request::Renew, Some(published), patch)
            }
            (Kind::Release, _) => {
                let Some(term) = self.election.releasing().cloned() else {
                    self.conclude(Request::Release, Err(Failure::Missing), now);
                    return Action::Wait(Some(now));
                };
                // The handover is known once no grant is in flight.
                let lease = write.uid.clone();
                self.pending = Some(Pending::Settling(write));
                return Action::Settle { lease, term };
            }
        };
        self.pending = Some(Pending::Sent(request, published));
        Action::Patch(patch)
    }

    fn wait(&mut self, until: Option<Moment>, now: Moment) -> Action {
        let is_holder = self.election.term().or(self.election.releasing()).is_some();
        if is_holder && self.watching {
            self.watching = false;
            return Action::Unwatch;
        }
        let version = self.election.lease().map(|lease| lease.version.clone());
        let unwatched = version.filter(|_| !is_holder && !self.watching);
        let Some(version) = unwatched else {
            return Action::Wait(until);
        };
        if self.watch_at <= now {
            self.watching = true;
            return Action::Watch(version);
        }
        Action::Wait(until.into_iter().chain([self.watch_at]).min())
    }

    /// Returns whether the state to publish has changed in more than the session starts left.
    fn has_changes_to_publish(&self) -> bool {
        let written = self.written.as_ref();
        let has_changed =
            written.is_none_or(|old| self.published.entry.has_changed_since(&old.entry));
        self.election.term().is_some() && has_changed
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]
mod tests;
