//! The queue of the term in which this process is the leader.
//!
//! This module makes all decisions of the queue task; the task itself handles events, permits,
//! timers and logs. A simulation drives this module without the task, in simulated time.
//!
//! Each term has a queue of its own, which starts from the handover of the last leader. When the
//! term ends, its waiters are sent to the next leader.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp, Unit};

use crate::bot_token::{BotToken, Current};
use crate::gateway_bot::Limits;
use crate::leadership::leader_health::Health;
use crate::leadership::state::{Leader, LeadershipState};
use crate::leadership::term::Term;
use crate::lease_state::last_known::PublishedState;
use crate::lease_state::{
    BlockedBy, Entry, Handover, MAX_LISTED_SHARDS, SessionStarts, TokenState,
};
use crate::pacing::discord_retry::Outcome;
use crate::pacing::pacer::{Grant, WaiterId};
use crate::pacing::scheduler::{Config, FetchResult, Queue};
use crate::protocol::refusal::{Reason, Refusal};
use crate::protocol::request::{Report, Shard};
use crate::queue::snapshot::{Detail, Granted, LeaderView, Snapshot};
use crate::time::Moment;

/// The maximum number of last grants that are kept for people.
const MAX_GRANTED: usize = 64;

/// How the token has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenChange {
    /// The previous token exists again.
    Returned,
    /// There is another token.
    New,
    /// There is no token any more, with the error.
    Missing(String),
    /// No token is configured.
    None,
}

/// The queue of the term in which this process is the leader, and its leadership state.
#[derive(Debug)]
pub struct TermQueue {
    config: Config,
    leadership: LeadershipState,
    /// The term that began last. After its end it is used for the handover only.
    last_term: Option<TermState>,
    token: Current,
    /// The last token that existed, and its fingerprint.
    last_token: Option<(BotToken, String)>,
}

/// The state of one term, which the next term does not use.
#[derive(Debug)]
struct TermState {
    /// The number of the term.
    number: u64,
    queue: Queue,
    reset_time: Option<Timestamp>,
    /// The last grants, oldest first.
    granted: VecDeque<Granted>,
}

impl TermQueue {
    /// Returns the queue of a process with this leadership state.
    pub fn new(config: Config, leadership: LeadershipState, token: Current, now: Moment) -> Self {
        let mut new = Self {
            config,
            leadership: LeadershipState::UNKNOWN,
            last_term: None,
            last_token: token.token().map(with_fingerprint),
            token,
        };
        new.set_leadership(leadership, now);
        new
    }

    /// Takes a new leadership state. Returns whether a term began or ended: then the queue has no
    /// waiters, and the response to a fetch in flight is void.
    pub fn set_leadership(&mut self, leadership: LeadershipState, now: Moment) -> bool {
        let number =
            |leadership: &LeadershipState| leadership.term.as_ref().map(|term| term.number);
        let changed = number(&self.leadership) != number(&leadership);
        self.leadership = leadership;
        if changed && let Some(term) = self.leadership.term.clone() {
            self.begin(&term, now);
        }
        changed
    }

    fn begin(&mut self, term: &Term, now: Moment) {
        let token = self.token.state();
        let mut queue = Queue::taking_over(&self.config, token, &term.handover, now);
        if let Some(known) = self.leadership.known.take()
            && Some(&known.token_fingerprint) == self.token_fingerprint()
            && token == TokenState::Unchecked
        {
            queue.adopt(known.limits, now);
        }
        self.last_term = Some(TermState {
            number: term.number,
            queue,
            reset_time: None,
            granted: VecDeque::with_capacity(MAX_GRANTED),
        });
    }

    fn token_fingerprint(&self) -> Option<&String> {
        self.last_token.as_ref().map(|(_, fingerprint)| fingerprint)
    }

    /// Returns whether this process has a term. Its right to grant may have expired.
    pub fn has_term(&self) -> bool {
        self.leadership.leads()
    }

    /// Returns whether this process may grant and fetch.
    pub fn may_grant(&self, now: Moment) -> bool {
        self.until() > now
    }

    /// Returns the end of the right to grant; zero without a term.
    fn until(&self) -> Moment {
        let term = self.leadership.term.as_ref();
        term.map_or(Moment::ZERO, |term| term.until)
    }

    /// Returns the state of the current term, if this process has one.
    fn term_state(&self) -> Option<&TermState> {
        self.last_term.as_ref().filter(|_| self.has_term())
    }

    /// Returns the state of the current term, if this process may grant.
    fn granting(&self, now: Moment) -> Option<&TermState> {
        self.term_state().filter(|_| self.may_grant(now))
    }

    fn granting_mut(&mut self, now: Moment) -> Option<&mut TermState> {
        let may_grant = self.may_grant(now);
        self.last_term.as_mut().filter(|_| may_grant)
    }

    /// Returns when the next grant or fetch is due, if nothing happens before.
    pub fn wake_at(&self, now: Moment) -> Option<Moment> {
        self.granting(now)?.queue.wake_at()
    }

    /// Adds a waiter. Returns whether it took a reservation; none if this process has no term, so
    /// that the waiter must be sent to the next leader.
    pub fn offer(
        &mut self,
        waiter: WaiterId,
        shard: impl Into<Shard>,
        arrived: Moment,
        now: Moment,
    ) -> Option<bool> {
        let has_term = self.has_term();
        let state = self.last_term.as_mut().filter(|_| has_term)?;
        Some(state.queue.offer_from(waiter, shard.into(), arrived, now))
    }

    /// Takes the report of a shard. It is dropped if this process may not grant.
    pub fn report(&mut self, shard: u32, report: Report, now: Moment) {
        if let Some(state) = self.granting_mut(now) {
            state.queue.report(shard, report, now);
        }
    }

    /// Removes a waiter that disconnected. Returns whether it was waiting.
    pub fn cancel(&mut self, waiter: WaiterId, now: Moment) -> bool {
        self.last_term
            .as_mut()
            .is_some_and(|state| state.queue.cancel(waiter, now))
    }

    /// Removes a waiter whose `wait` has passed. Returns the refusal; none if it was granted.
    pub fn give_up(&mut self, waiter: WaiterId, now: Moment) -> Option<Refusal> {
        let mut refusal = self.last_term.as_mut()?.queue.give_up(waiter, now)?;
        if !self.may_grant(now) {
            refusal.reason = Reason::NoLeader;
        }
        Some(refusal)
    }

    /// Returns a grant for the next waiter that may identify now, and until when it may be
    /// written. The caller must report [`TermQueue::written`] or [`TermQueue::unwritten`].
    pub fn grant(&mut self, now: Moment) -> Option<(Grant, Moment)> {
        let until = self.until();
        Some((self.granting_mut(now)?.queue.grant(now)?, until))
    }

    /// Records that the grant was written at `at`, or may have been.
    pub fn written(&mut self, grant: &Grant, at: Moment) {
        let Some(state) = &mut self.last_term else {
            return;
        };
        state.queue.written(grant.waiter, at);
        if state.granted.len() == MAX_GRANTED {
            state.granted.pop_front();
        }
        state.granted.push_back(Granted {
            shard: grant.shard,
            bucket: grant.bucket,
            at,
        });
    }

    /// Records that no byte of the grant was written.
    pub fn unwritten(&mut self, waiter: WaiterId, now: Moment) {
        if let Some(state) = &mut self.last_term {
            state.queue.unwritten(waiter, now);
        }
    }

    /// Returns the token with which to fetch the limits, if a fetch is due. The caller must report
    /// [`TermQueue::fetched`], unless the term or the token changes before.
    pub fn fetch_due(&mut self, now: Moment) -> Option<BotToken> {
        self.granting(now)?
            .queue
            .fetch_at()
            .filter(|at| *at <= now)?;
        let token = self.token.token()?.clone();
        self.granting_mut(now)?.queue.fetching(now);
        Some(token)
    }

    /// Takes the outcome of a fetch that ended at `now`, which is `wall` on the wall clock.
    /// `jitter` is 0 to 1. Returns none if the fetch was void.
    pub fn fetched(
        &mut self,
        outcome: Outcome,
        now: Moment,
        wall: Timestamp,
        jitter: f64,
    ) -> Option<FetchResult> {
        let has_term = self.has_term();
        let state = self.last_term.as_mut().filter(|_| has_term)?;
        let result = state.queue.fetched(outcome, now, jitter);
        if let FetchResult::Limits { limits, .. } = &result {
            state.reset_time = steady(state.reset_time, reset_time(limits, wall));
        }
        Some(result)
    }

    /// Takes the current token. A fetch with the previous one is void.
    pub fn token_changed(&mut self, token: Current, now: Moment) -> TokenChange {
        let last = self.last_token.as_ref().map(|(last, _)| last);
        let change = match &token {
            Current::Token(new) if last == Some(new) => TokenChange::Returned,
            Current::Token(new) => {
                self.last_token = Some(with_fingerprint(new));
                TokenChange::New
            }
            Current::Missing(error) => TokenChange::Missing(error.clone()),
            Current::None => TokenChange::None,
        };
        if let Some(state) = &mut self.last_term {
            state.reset_time = None;
            match change {
                TokenChange::Returned => state.queue.token_returned(now),
                _ => state.queue.token_changed(token.state(), now),
            }
        }
        self.token = token;
        change
    }

    /// Returns the handover to the next leader of this Lease after `term`; none while the term
    /// lasts or a grant is still being written.
    pub fn handover(&self, lease: &str, term: &Term, now: Moment) -> Option<Handover> {
        let last = self.last_term.as_ref();
        if self.has_term() || last.is_some_and(|state| state.queue.is_writing()) {
            return None;
        }
        Some(match last.filter(|state| state.number == term.number) {
            Some(state) => state.queue.handover(lease, now),
            // A process that is stopped while it takes the Lease never begins the term.
            None => term.handover.pass_on(lease, self.config.spacing, now),
        })
    }

    /// Returns why nothing is granted in this term; none if something may be.
    pub fn blocked_by(&self) -> Option<BlockedBy> {
        self.term_state()?.queue.blocked_by()
    }

    /// Returns whether a shard is held because it was granted too often, or was a moment ago.
    pub fn is_crash_looping(&self, shard: u32) -> bool {
        let state = self.term_state();
        state.is_some_and(|state| state.queue.is_crash_looping(shard))
    }

    /// Returns when a shard that is held is released; none if it is not held.
    pub fn released_at(&self, shard: u32) -> Option<Moment> {
        self.term_state()?.queue.released_at(shard)
    }

    /// Returns the last limits from Discord in this term.
    pub fn limits(&self) -> Option<Limits> {
        self.term_state()?.queue.budget().limits().cloned()
    }

    /// Returns when to fetch the limits next.
    pub fn fetch_at(&self) -> Option<Moment> {
        self.term_state()?.queue.fetch_at()
    }

    /// Returns the last error of the token, or of a fetch in this term, for people.
    pub fn last_error(&self) -> Option<String> {
        self.last_error_in(self.term_state())
    }

    fn last_error_in(&self, state: Option<&TermState>) -> Option<String> {
        match &self.token {
            Current::Missing(error) => Some(error.clone()),
            _ => state?.queue.budget().last_error().map(str::to_owned),
        }
    }

    /// Returns what the leader publishes on its Lease as `holder`. It includes what only a leader
    /// knows even if the right to grant has expired: the write succeeds only if no other pod has
    /// been the leader since.
    pub fn published_state(&self, holder: &str) -> PublishedState {
        let mut entry = Entry {
            token: self.token.state(),
            last_error: self.last_error(),
            ..Entry::new(holder)
        };
        if let Some(state) = self.term_state() {
            let budget = state.queue.budget();
            let session_starts = budget.limits().zip(budget.remaining());
            entry.token = budget.token();
            entry.blocked_by = state.queue.blocked_by();
            entry.max_concurrency = state.queue.concurrency();
            entry.recommended_shards = budget.limits().map(|limits| limits.shards);
            entry.session_starts = session_starts.map(|(limits, remaining)| SessionStarts {
                total: limits.total,
                remaining,
                reset_time: state.reset_time,
            });
            let degraded = state.queue.degraded();
            entry.invalid_session_shards = degraded.take(MAX_LISTED_SHARDS).collect();
            let looping = state.queue.crash_looping().map(|looping| looping.shard);
            entry.crash_looping_shards = looping.take(MAX_LISTED_SHARDS).collect();
        }
        PublishedState {
            entry,
            token_fingerprint: self.token_fingerprint().cloned(),
        }
    }

    /// Returns the state of the queue at `now`, for people. `held_requests` waiting clients are
    /// connected to this process.
    pub fn snapshot(&self, detail: Detail, held_requests: u64, now: Moment) -> Snapshot {
        let granting = self.granting(now);
        // The waiters are known here even if the right to grant has expired.
        let lanes: Vec<_> = match self.term_state() {
            Some(state) => state.queue.lanes(detail.max_shards()).collect(),
            None => Vec::new(),
        };
        let leader = self.leadership.leader.as_ref();
        Snapshot {
            taken: now,
            role: self.leadership.role(now),
            leader: leader.map(|leader| leader.address),
            leader_pod: leader.and_then(Leader::pod).map(str::to_owned),
            leader_silent: false,
            leader_health: Health::NoLeader,
            token: granting.map_or(self.token.state(), |state| state.queue.budget().token()),
            last_error: self.last_error_in(granting),
            held_requests,
            leader_view: granting.map(|state| state.view(detail, now)),
            waiting: lanes.iter().map(|lane| lane.waiting).sum(),
            buckets: lanes.len(),
            lanes,
        }
    }
}

impl TermState {
    fn view(&self, detail: Detail, now: Moment) -> LeaderView {
        let budget = self.queue.budget();
        let max_shards = detail.max_shards();
        LeaderView {
            blocked_by: self.queue.blocked_by(),
            fetch_at: self.queue.fetch_at(),
            max_concurrency: self.queue.concurrency(),
            limits: budget.limits().cloned(),
            remaining: budget.remaining(),
            reset_time: self.reset_time,
            granted: match detail {
                Detail::Numbers => Vec::new(),
                Detail::Shards | Detail::Brief => self.granted.iter().copied().collect(),
            },
            crash_looping_count: self.queue.crash_looping_count(),
            crash_looping: self.queue.crash_looping().take(max_shards).collect(),
            shards: self.queue.shard_states(max_shards, now),
        }
    }
}

fn with_fingerprint(token: &BotToken) -> (BotToken, String) {
    (token.clone(), token.fingerprint())
}

/// Returns when the open window ends on the wall clock, to the second; none if no window is open.
fn reset_time(limits: &Limits, wall: Timestamp) -> Option<Timestamp> {
    let after = SignedDuration::try_from(limits.reset_after).ok()?;
    let time = wall.checked_add(after).ok()?;
    let time = time.round(Unit::Second).ok()?;
    (!limits.reset_after.is_zero()).then_some(time)
}

/// Returns the old time if the new one differs only by the network's jitter, so that the Lease is
/// not written again.
fn steady(old: Option<Timestamp>, new: Option<Timestamp>) -> Option<Timestamp> {
    let close = |(old, new): (Timestamp, Timestamp)| (new.as_second() - old.as_second()).abs() <= 2;
    if old.zip(new).is_some_and(close) {
        old
    } else {
        new
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
