//! The queue of the term in which this process leads. Pure.
//!
//! All decisions of the queue task are made here; the task (`keeper`) moves
//! events, permits, alarms and logs. The simulation drives this without the
//! task, in its own time.
//!
//! Each term has a queue of its own, which starts from what the last leader
//! left. When the term ends, its waiters are sent to the next leader.

use std::collections::VecDeque;

use gateway_queue_logbook::{Entry, Hold, Left, SessionStarts, Token};
use jiff::{SignedDuration, Timestamp, Unit};

use crate::budget::Outcome;
use crate::limits::Limits;
use crate::logbook::Page;
use crate::moment::Moment;
use crate::pacer::{Grant, WaiterId};
use crate::queue::{Config, Learned, Queue};
use crate::refusal::{Reason, Refusal};
use crate::secret::{BotToken, Current};
use crate::standing::{Leader, Standing};
use crate::state::{Detail, Granted, Snapshot};
use crate::term::Term;

/// How many of the last grants are kept, for people.
const MAX_GRANTED: usize = 64;

/// What a change of the token means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenChange {
    /// The token that was there before is back.
    Returned,
    /// Another token.
    New,
    /// The token is gone; why.
    Missing(String),
    /// None is configured.
    None,
}

/// The queue of the present or last term, and this process's place in the
/// election.
#[derive(Debug)]
pub struct TermQueue {
    config: Config,
    standing: Standing,
    /// That of the last term, once it has ended.
    queue: Queue,
    /// The number of the term that the queue is of.
    begun: Option<u64>,
    /// The last grants, the oldest first.
    granted: VecDeque<Granted>,
    reset_time: Option<Timestamp>,
    token: Current,
    /// The last token that was there, and its mark.
    last_token: Option<(BotToken, String)>,
}

impl TermQueue {
    /// The queue of a process that stands here, at `now`.
    pub fn new(config: Config, standing: Standing, token: Current, now: Moment) -> Self {
        let mut new = Self {
            queue: Queue::new(&config, token.state(), now),
            config,
            standing: Standing::SEEKS,
            begun: None,
            granted: VecDeque::with_capacity(MAX_GRANTED),
            reset_time: None,
            last_token: token.token().map(marked),
            token,
        };
        new.stand(standing, now);
        new
    }

    /// Follows the election. Returns whether a term began or ended: then no one
    /// waits here any more, and the answer to a fetch under way is void.
    pub fn stand(&mut self, standing: Standing, now: Moment) -> bool {
        let number = |standing: &Standing| standing.term.as_ref().map(|term| term.number);
        let changed = number(&self.standing) != number(&standing);
        self.standing = standing;
        if changed && let Some(term) = self.standing.term.clone() {
            self.begin(&term, now);
        }
        changed
    }

    fn begin(&mut self, term: &Term, now: Moment) {
        let token = self.token.state();
        self.begun = Some(term.number);
        self.queue = Queue::inheriting(&self.config, token, &term.inheritance, now);
        self.reset_time = None;
        if let Some(known) = self.standing.known.take()
            && Some(&known.token_mark) == self.token_mark()
            && token == Token::Unchecked
        {
            self.queue.adopt(known.limits, now);
        }
    }

    fn token_mark(&self) -> Option<&String> {
        self.last_token.as_ref().map(|(_, mark)| mark)
    }

    /// Whether this process has a term. Its right to grant may have run out.
    pub fn has_term(&self) -> bool {
        self.standing.leads()
    }

    /// Whether this process may grant and fetch.
    pub fn may_grant(&self, now: Moment) -> bool {
        self.until() > now
    }

    /// The end of the right to grant; zero without a term.
    fn until(&self) -> Moment {
        let term = self.standing.term.as_ref();
        term.map_or(Moment::ZERO, |term| term.until)
    }

    /// When to look again if nothing happens before, for a grant or a fetch.
    pub fn wake_at(&self, now: Moment) -> Option<Moment> {
        self.queue.wake_at().filter(|_| self.may_grant(now))
    }

    /// A waiter joins. Returns whether it returned to a place that was kept for
    /// it; none when this process has no term, so that the waiter must ask the
    /// next leader.
    pub fn offer(
        &mut self,
        waiter: WaiterId,
        shard: u32,
        arrived: Moment,
        now: Moment,
    ) -> Option<bool> {
        self.has_term()
            .then(|| self.queue.offer_from(waiter, shard, arrived, now))
    }

    /// A waiter disconnected. Returns whether it was waiting.
    pub fn cancel(&mut self, waiter: WaiterId, now: Moment) -> bool {
        self.queue.cancel(waiter, now)
    }

    /// A waiter waits no longer. None when it was not waiting, as it was granted.
    pub fn give_up(&mut self, waiter: WaiterId, now: Moment) -> Option<Refusal> {
        let mut refusal = self.queue.give_up(waiter, now)?;
        if !self.may_grant(now) {
            refusal.reason = Reason::NoLeader;
        }
        Some(refusal)
    }

    /// The next waiter that may identify now, and until when its grant may be
    /// written. The caller reports [`TermQueue::written`] or
    /// [`TermQueue::unwritten`].
    pub fn grant(&mut self, now: Moment) -> Option<(Grant, Moment)> {
        if !self.may_grant(now) {
            return None;
        }
        Some((self.queue.grant(now)?, self.until()))
    }

    /// The grant was written at `at`, or may have been.
    pub fn written(&mut self, grant: &Grant, at: Moment) {
        self.queue.written(grant.waiter, at);
        if self.granted.len() == MAX_GRANTED {
            self.granted.pop_front();
        }
        self.granted.push_back(Granted {
            shard: grant.shard,
            bucket: grant.bucket,
            at,
        });
    }

    /// Not a byte of the grant was written.
    pub fn unwritten(&mut self, waiter: WaiterId, now: Moment) {
        self.queue.unwritten(waiter, now);
    }

    /// The token to fetch the limits with, when that is due. The caller reports
    /// [`TermQueue::fetched`], unless a term or the token changes before.
    pub fn fetch_due(&mut self, now: Moment) -> Option<BotToken> {
        if !self.may_grant(now) || self.queue.fetch_at().is_none_or(|at| at > now) {
            return None;
        }
        let token = self.token.token()?.clone();
        self.queue.fetching(now);
        Some(token)
    }

    /// The fetch ended at `now`, which is `wall` on the wall clock. `jitter` is
    /// anything from 0 to 1.
    pub fn fetched(
        &mut self,
        outcome: Outcome,
        now: Moment,
        wall: Timestamp,
        jitter: f64,
    ) -> Learned {
        let learned = self.queue.fetched(outcome, now, jitter);
        if let Learned::Limits { limits, .. } = &learned {
            self.reset_time = steady(self.reset_time, reset_time(limits, wall));
        }
        learned
    }

    /// The token changed. A fetch with the old one is void.
    pub fn token_changed(&mut self, token: Current, now: Moment) -> TokenChange {
        self.reset_time = None;
        let last = self.last_token.as_ref().map(|(last, _)| last);
        let change = match &token {
            Current::Token(new) if last == Some(new) => TokenChange::Returned,
            Current::Token(new) => {
                self.last_token = Some(marked(new));
                TokenChange::New
            }
            Current::Missing(why) => TokenChange::Missing(why.clone()),
            Current::None => TokenChange::None,
        };
        match change {
            TokenChange::Returned => self.queue.token_returned(now),
            _ => self.queue.token_changed(token.state(), now),
        }
        self.token = token;
        change
    }

    /// What the next leader of this Lease must know after `term`; none while
    /// the term lasts or a grant is still being written.
    pub fn handover(&self, lease: &str, term: &Term, now: Moment) -> Option<Left> {
        if self.has_term() || self.queue.is_writing() {
            return None;
        }
        // A process that is told to end while it takes the Lease never begins.
        Some(match self.begun == Some(term.number) {
            true => self.queue.left(lease, now),
            false => term.inheritance.left(lease, self.config.spacing, now),
        })
    }

    /// Why nothing is granted; none when something may be.
    pub fn hold(&self) -> Option<Hold> {
        self.queue.hold()
    }

    /// What Discord reported last.
    pub fn limits(&self) -> Option<Limits> {
        self.queue.budget().limits()
    }

    /// When to fetch the limits next.
    pub fn fetch_at(&self) -> Option<Moment> {
        self.queue.fetch_at()
    }

    /// The last error of the token or of Discord, for a person.
    pub fn trouble(&self) -> Option<String> {
        match &self.token {
            Current::Missing(why) => Some(why.clone()),
            _ => self.queue.budget().trouble().map(str::to_owned),
        }
    }

    /// What a leader publishes on its Lease, as `holder`.
    pub fn page(&self, holder: &str) -> Page {
        let budget = self.queue.budget();
        let session_starts = budget.limits().zip(budget.remaining());
        Page {
            entry: Entry {
                holder: holder.to_owned(),
                token: budget.token(),
                hold: self.queue.hold(),
                detail: self.trouble(),
                max_concurrency: self.queue.concurrency(),
                recommended_shards: budget.limits().map(|limits| limits.shards),
                session_starts: session_starts.map(|(limits, remaining)| SessionStarts {
                    total: limits.total,
                    remaining,
                    reset_time: self.reset_time,
                }),
            },
            token_mark: self.token_mark().cloned(),
        }
    }

    /// The queue at `now`, for people. This process holds `held` clients.
    pub fn snapshot(&self, detail: Detail, held: u64, now: Moment) -> Snapshot {
        let budget = self.queue.budget();
        let has_term = self.has_term();
        let lanes: Vec<_> = match has_term {
            true => self.queue.lanes(detail.most_shards()).collect(),
            false => Vec::new(),
        };
        let leader = self.standing.leader.as_ref();
        Snapshot {
            taken: now,
            role: self.standing.role(now),
            leader: leader.map(|leader| leader.address),
            leader_pod: leader.and_then(Leader::pod).map(str::to_owned),
            leader_silent: false,
            token: budget.token(),
            hold: self.queue.hold().filter(|_| has_term),
            trouble: self.trouble(),
            fetch_at: self.queue.fetch_at().filter(|_| has_term),
            held,
            max_concurrency: self.queue.concurrency(),
            limits: budget.limits(),
            remaining: budget.remaining(),
            reset_time: self.reset_time,
            waiting: lanes.iter().map(|lane| lane.waiting).sum(),
            buckets: lanes.len(),
            lanes,
            granted: match detail {
                Detail::Numbers => Vec::new(),
                Detail::Shards | Detail::Brief => self.granted.iter().copied().collect(),
            },
        }
    }
}

fn marked(token: &BotToken) -> (BotToken, String) {
    (token.clone(), token.mark())
}

/// When the open window ends, on the wall clock, to the second; none when no
/// window is open.
fn reset_time(limits: &Limits, wall: Timestamp) -> Option<Timestamp> {
    let after = SignedDuration::try_from(limits.reset_after).ok()?;
    let time = wall.checked_add(after).ok()?;
    let time = time.round(Unit::Second).ok()?;
    (!limits.reset_after.is_zero()).then_some(time)
}

/// The old time when the new one is the same but for the network's jitter: who
/// writes it down need not write again.
fn steady(old: Option<Timestamp>, new: Option<Timestamp>) -> Option<Timestamp> {
    let close = |(old, new): (Timestamp, Timestamp)| (new.as_second() - old.as_second()).abs() <= 2;
    if old.zip(new).is_some_and(close) {
        old
    } else {
        new
    }
}
