//! One pod's part in the election, without IO.
//!
//! The candidate owns the [`Election`], the Lease as it was last read, what was
//! written to it, and the [`LeadershipState`] that follows. Its caller owns the clocks and
//! the network:
//!
//! 1. [`Candidate::step`] returns the next [`Action`].
//! 2. The caller executes it and reports the result: [`Candidate::answered`] for a
//!    request, [`Candidate::settled`] for a handover, [`Candidate::noticed`] and
//!    [`Candidate::watch_ended`] for the watch.
//! 3. After each call, [`Candidate::standing`] is the standing to publish, and
//!    [`Candidate::events`] are the events to log and count.
//!
//! There is at most one request at a time: while one is in flight, `step` returns
//! [`Action::Wait`]. [`Candidate::resign`] and [`Candidate::publish`] may be called at any
//! time. JSON goes in and out as the API server has it, so a simulation drives
//! this exactly as the server's `leadership::candidate_task` does.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::leadership::election::{Answer, Config, Election, Kind, LONGEST, Step, Write};
use crate::leadership::leader_health::Renewal;
use crate::leadership::lease_object::{self, Failure, LeaseObject};
use crate::leadership::state::{Leader, LeadershipState};
use crate::leadership::term::Term;
use crate::lease_state::last_known::{LastKnown, Page};
use crate::lease_state::{Left, Unreachable};
use crate::time::Moment;

/// News is written no sooner than this after the last write.
const NEWS_PAUSE: Duration = Duration::from_secs(2);

/// A watch that ended is started again after this time.
const WATCH_PAUSE: Duration = Duration::from_secs(2);

/// The longest age of a page that is started from. The clocks of two nodes differ, so
/// a page may also be from the future, by as much.
const YOUNG: SignedDuration = SignedDuration::from_mins(5);

/// A pod that is to end, and for so long got no other answer than that the Lease does not
/// exist or that it may not have it, has no successor to forward to. Shorter gaps
/// are a Lease that the operator makes again, or an API server that starts.
const GONE_AFTER: Duration = Duration::from_secs(5);

/// What the caller has to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Read the Lease, then call [`Candidate::answered`].
    Read,
    /// Send this merge patch to the Lease, then call [`Candidate::answered`].
    Patch(Value),
    /// End the grants of this term and ask the queue task what it hands over to
    /// the next leader of the Lease with this UID, then call [`Candidate::settled`].
    Settle {
        /// The UID of the Lease.
        lease: String,
        /// The term that ends.
        term: Term,
    },
    /// Watch the Lease from this resource version on, in place of any older watch,
    /// and call [`Candidate::step`] again.
    Watch(String),
    /// Close the watch and call [`Candidate::step`] again.
    Unwatch,
    /// Wait until this moment or the next input; for an input alone without one.
    Wait(Option<Moment>),
}

/// A kind of request to the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Reads the Lease.
    Read,
    /// Becomes the holder.
    Take,
    /// Stays the holder.
    Renew,
    /// Leaves the Lease with a release record.
    Release,
}

impl Request {
    /// The name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Take => "take",
            Self::Renew => "renew",
            Self::Release => "release",
        }
    }
}

/// Something to log or count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request ended.
    Asked {
        /// Which.
        request: Request,
        /// Whether it did what it was for.
        succeeded: bool,
    },
    /// The Lease was read for the first time: the pod is ready.
    Ready,
    /// Requests of this kind fail. Reported once until they succeed again.
    Unreachable {
        /// Which requests.
        request: Request,
        /// A sentence that quotes the API server.
        error: String,
    },
    /// Requests of this kind succeed again.
    Reachable(Request),
    /// The queue task did not hand over in time, because a grant is still being written. The
    /// release of the Lease is retried.
    HandoverDelayed,
    /// The right to grant ran out before a renewal succeeded.
    Lapsed,
    /// The right to grant is back, or the term is over.
    LapseEnded,
    /// This pod is the leader under this name.
    Leads(String),
    /// This pod is the leader no more, and why.
    LeadsNoMore(&'static str),
    /// The leader is a process that ran in this pod before it was restarted.
    FormerSelfLeads(String),
    /// Another pod is the leader.
    OtherLeads(Leader),
    /// The queue is gone: see [`Candidate::is_gone`].
    Gone,
}

/// A request in flight, or about to be sent.
#[derive(Debug)]
enum Pending {
    /// A read, a take or a renewal; with the page that a renewal writes.
    Sent(Request, Option<Page>),
    /// The queue task is asked for the handover that this write publishes.
    Settling(Write),
    /// The handover is ready to be written.
    Settled(Write, Left),
}

/// One pod that takes part in the election.
#[derive(Debug)]
pub struct Candidate {
    config: Config,
    /// Where this process takes forwarded requests: `IP:PORT`.
    address: String,
    election: Election,
    pending: Option<Pending>,
    /// The Lease as it was last read.
    last: Option<LeaseObject>,
    /// When that was.
    last_at: Moment,
    /// The last renewal by another pod.
    renewal: Option<Renewal>,
    /// The Lease before this pod took it, if its last leader wrote it not long ago.
    inherited: Option<LeaseObject>,
    watching: bool,
    /// No watch is started before this.
    watch_at: Moment,
    /// What the leader publishes with its next renewal.
    page: Page,
    /// The page on the Lease; none unless the last write was a renewal.
    written: Option<Page>,
    written_at: Moment,
    /// What failed last and has not succeeded since.
    failing: Option<Request>,
    /// Whether the right to grant has run out.
    lapsed: bool,
    /// Whether the Lease was ever read.
    ready: bool,
    /// Since when every answer to a pod that is to end was that there is no Lease for it.
    gone_since: Option<Moment>,
    gone: bool,
    standing: LeadershipState,
    events: Vec<Event>,
}

impl Candidate {
    /// Returns a candidate that has not read the Lease yet. Its leaders' forwarded
    /// requests go to `address`.
    pub fn new(config: Config, address: SocketAddr, page: Page) -> Self {
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
            page,
            written: None,
            written_at: Moment::ZERO,
            failing: None,
            lapsed: false,
            ready: false,
            gone_since: None,
            gone: false,
            standing: LeadershipState::SEEKS,
            events: Vec::new(),
        }
    }

    /// Returns where this pod stands, as of the last call that took the time.
    pub fn standing(&self) -> &LeadershipState {
        &self.standing
    }

    /// Returns the last renewal of the Lease by another pod that this pod saw.
    pub fn renewal(&self) -> Option<&Renewal> {
        self.renewal.as_ref()
    }

    /// Returns the events since the last call, the oldest first.
    pub fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Returns the term that is still to be released, after the candidate resigned.
    pub fn releasing(&self) -> Option<&Term> {
        self.election.releasing()
    }

    /// Returns whether it resigned and has nothing to release any more.
    pub fn has_left(&self) -> bool {
        self.election.has_left()
    }

    /// Returns whether this pod is to end and its Lease is gone, or refused to it, for
    /// good: the GatewayQueue was deleted, and nobody will lead after it.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Returns whether it was told to lead no more.
    pub fn has_resigned(&self) -> bool {
        self.election.has_resigned()
    }

    /// Returns what to do now. `wall` is the wall clock's time: it is written to the
    /// Lease for people, and bounds the age of a page that is started from.
    pub fn step(&mut self, now: Moment, wall: Timestamp) -> Action {
        self.update(now);
        match self.pending.take() {
            Some(Pending::Settled(write, left)) => {
                self.pending = Some(Pending::Sent(Request::Release, None));
                return Action::Patch(lease_object::release(&write, left, wall));
            }
            Some(pending) => {
                self.pending = Some(pending);
                return Action::Wait(None);
            }
            None => {}
        }
        if self.has_news() {
            self.election.renew_by(self.written_at + NEWS_PAUSE);
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

    /// Takes the result of a request: the Lease after it.
    pub fn answered(&mut self, answer: Result<LeaseObject, Failure>, now: Moment) {
        let Some(Pending::Sent(request, page)) = self.pending.take() else {
            return;
        };
        if answer.is_ok() && request != Request::Read {
            self.written = page;
            self.written_at = now;
        }
        self.conclude(request, answer, now);
    }

    /// Takes the handover of the queue task, or none when it did not answer in time. In that
    /// case the Lease is read and the request to the queue task is repeated.
    pub fn settled(&mut self, left: Option<Left>, now: Moment) {
        let Some(Pending::Settling(write)) = self.pending.take() else {
            return;
        };
        match left {
            Some(left) => self.pending = Some(Pending::Settled(write, left)),
            None => {
                self.events.push(Event::HandoverDelayed);
                self.election.answered(Answer::Failed, now);
                self.update(now);
            }
        }
    }

    /// Takes a change of the Lease that the watch reported.
    pub fn noticed(&mut self, record: LeaseObject, now: Moment) {
        let lease = record.lease.clone();
        self.saw(record, now, now);
        self.election.noticed(lease, now);
        self.update(now);
    }

    /// The watch ended: the Lease may have changed unseen.
    pub fn watch_ended(&mut self, now: Moment) {
        self.watching = false;
        self.watch_at = now + WATCH_PAUSE;
        self.election.doubt();
    }

    /// Replaces what the leader publishes.
    pub fn publish(&mut self, page: &Page) {
        if self.page != *page {
            self.page = page.clone();
        }
    }

    /// Leads no more, and never again.
    pub fn resign(&mut self, now: Moment) {
        self.election.resign();
        self.update(now);
    }

    fn write(&mut self, write: Write, now: Moment, wall: Timestamp) -> Action {
        let duration = self.config.duration;
        let (request, page, patch) = match (&write.kind, &self.last) {
            (Kind::Take(holder), Some(last)) => {
                let age = last.renewed.map(|at| wall.duration_since(at).abs());
                let young = age.is_some_and(|age| age < YOUNG);
                self.inherited = young.then(|| last.clone());
                let mut patch = last.take(&write, holder, &self.address, duration, wall);
                last.remove_obsolete_reports(&mut patch, holder);
                (Request::Take, None, patch)
            }
            (Kind::Take(_), None) => {
                // It cannot want to take what it has never read.
                self.conclude(Request::Take, Err(Failure::Missing), now);
                return Action::Wait(Some(now));
            }
            (Kind::Renew, _) => {
                let page = self.page.clone();
                let annotations = page.annotations();
                let mut patch =
                    lease_object::renew(&write, &annotations, &self.address, duration, wall);
                if let (Some(last), Some(term)) = (&self.last, self.election.term()) {
                    last.remove_obsolete_reports(&mut patch, &term.holder);
                }
                (Request::Renew, Some(page), patch)
            }
            (Kind::Release, _) => {
                let Some(term) = self.election.releasing().cloned() else {
                    self.conclude(Request::Release, Err(Failure::Missing), now);
                    return Action::Wait(Some(now));
                };
                // Once no grant is in flight, what is left can be stated.
                let lease = write.uid.clone();
                self.pending = Some(Pending::Settling(write));
                return Action::Settle { lease, term };
            }
        };
        self.pending = Some(Pending::Sent(request, page));
        Action::Patch(patch)
    }

    fn wait(&mut self, until: Option<Moment>, now: Moment) -> Action {
        let holds = self.election.term().or(self.election.releasing()).is_some();
        if holds && self.watching {
            self.watching = false;
            return Action::Unwatch;
        }
        let version = self.election.lease().map(|lease| lease.version.clone());
        let unwatched = version.filter(|_| !holds && !self.watching);
        let Some(version) = unwatched else {
            return Action::Wait(until);
        };
        if self.watch_at <= now {
            self.watching = true;
            return Action::Watch(version);
        }
        Action::Wait(until.into_iter().chain([self.watch_at]).min())
    }

    fn conclude(&mut self, request: Request, answer: Result<LeaseObject, Failure>, now: Moment) {
        self.events.push(Event::Asked {
            request,
            succeeded: answer.is_ok(),
        });
        self.look_whether_gone(&answer, now);
        let (answer, failure) = match answer {
            Ok(record) => {
                let lease = record.lease.clone();
                // A renewal that is found by reading may be as old as the last look.
                self.saw(record, self.last_at, now);
                if !self.ready {
                    self.ready = true;
                    self.events.push(Event::Ready);
                }
                (Answer::Lease(lease), None)
            }
            Err(Failure::Conflict) => (Answer::Conflict, None),
            Err(failure @ Failure::Missing) => (Answer::Missing, Some(failure)),
            Err(failure @ (Failure::Denied(_) | Failure::Other(_))) => {
                (Answer::Failed, Some(failure))
            }
        };
        match (failure, self.failing) {
            (Some(error), None) => {
                let error = error.to_string();
                self.events.push(Event::Unreachable { request, error });
                self.failing = Some(request);
            }
            (None, Some(failing))
                if failing == request
                    // A pod that leads no more has nothing to renew.
                    || (failing == Request::Renew && self.election.term().is_none()) =>
            {
                self.events.push(Event::Reachable(request));
                self.failing = None;
            }
            _ => {}
        }
        self.election.answered(answer, now);
        self.update(now);
    }

    fn look_whether_gone(&mut self, answer: &Result<LeaseObject, Failure>, now: Moment) {
        let gone = matches!(answer, Err(Failure::Missing | Failure::Denied(_)));
        if !gone || !self.election.has_resigned() {
            self.gone_since = None;
            return;
        }
        let since = *self.gone_since.get_or_insert(now);
        if now.since(since) >= GONE_AFTER && !self.gone {
            self.gone = true;
            self.events.push(Event::Gone);
        }
    }

    /// A renewal in it was made at `renewed_at` or later.
    fn saw(&mut self, record: LeaseObject, renewed_at: Moment, now: Moment) {
        let before = self
            .last
            .as_ref()
            .filter(|_| self.election.term().is_none());
        let seen_at = before.and_then(|before| {
            if record.is_renewal_after(before) {
                return Some(renewed_at);
            }
            // Another write to the same renewal, such as the report of another pod.
            let renewal = self.renewal.as_ref()?;
            let is_last = renewal.version == before.lease.version;
            let is_same = renewal.uid == record.lease.uid
                && record.lease.holder.as_ref() == Some(&renewal.holder);
            (is_last && is_same).then_some(renewal.at)
        });
        if let Some(at) = seen_at {
            let key = Unreachable::key(pod_of(&self.config.identity).unwrap_or_default());
            self.renewal = Some(Renewal {
                uid: record.lease.uid.clone(),
                version: record.lease.version.clone(),
                holder: record.lease.holder.clone().unwrap_or_default(),
                at,
                duration: record.lease.duration,
                report: record.annotations.get(&key).cloned(),
            });
        }
        self.last = Some(record);
        self.last_at = now;
    }

    /// Returns whether the page has something that people look out for.
    fn has_news(&self) -> bool {
        let written = self.written.as_ref();
        let is_news = written.is_none_or(|old| self.page.entry.is_news_after(&old.entry));
        self.election.term().is_some() && is_news
    }

    fn why_no_more(&self) -> &'static str {
        if self.election.has_resigned() {
            "it is to end"
        } else if self.election.leader().is_some() {
            "another pod has taken the Lease"
        } else {
            "the Lease was deleted, or somebody else has changed it"
        }
    }

    /// Returns whether `holder` is a process that ran in this pod.
    fn is_former_self(&self, holder: &str) -> bool {
        pod_of(holder) == pod_of(&self.config.identity)
    }

    /// Derives the standing from the election, and reports what changed.
    fn update(&mut self, now: Moment) {
        let lapsed = self.election.term().is_some_and(|term| term.until <= now);
        match (self.lapsed, lapsed) {
            (false, true) => self.events.push(Event::Lapsed),
            (true, false) => self.events.push(Event::LapseEnded),
            _ => {}
        }
        self.lapsed = lapsed;

        let term = self.election.term().cloned();
        let number = |term: &Option<Term>| term.as_ref().map(|term| term.number);
        if number(&self.standing.term) != number(&term) {
            self.standing.known = None;
            self.events.push(match &term {
                Some(term) => {
                    // Only the last leader can have written what is there now.
                    self.standing.known = self.known();
                    Event::Leads(term.holder.clone())
                }
                None => Event::LeadsNoMore(self.why_no_more()),
            });
        }
        self.standing.term = term;

        let leader = self.leader();
        if self.standing.leader != leader
            && let Some(leader) = &leader
        {
            self.events.push(match self.is_former_self(&leader.holder) {
                true => Event::FormerSelfLeads(leader.holder.clone()),
                false => Event::OtherLeads(leader.clone()),
            });
        }
        self.standing.leader = leader;
    }

    /// Returns what the last leader knew of the session starts, less what it may
    /// have granted since.
    fn known(&self) -> Option<LastKnown> {
        let known = LastKnown::read(&self.inherited.as_ref()?.annotations)?;
        Some(known.less_unseen(LONGEST, self.config.spacing))
    }

    fn leader(&self) -> Option<Leader> {
        let (holder, address) = self.election.leader()?;
        Some(Leader {
            holder: holder.to_owned(),
            address: address.parse().ok()?,
        })
    }
}

/// Returns the pod of an identity.
fn pod_of(identity: &str) -> Option<&str> {
    identity.rsplit_once('_').map(|(pod, _)| pod)
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]
mod tests;
