//! The task that owns the queue. Everything that happens comes in as an event,
//! in one channel, in order.
//!
//! It has a queue for each term in which this process leads. When a term ends,
//! those who wait are sent on to the next leader.

mod telling;

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::{future, io};

use gateway_queue_logbook::{Hold, Left, Token};
use gateway_queue_telemetry::{ms, us};
use jiff::Timestamp;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tracing::{debug, info, warn};

use crate::budget::Outcome;
use crate::clock::{self, Alarm};
use crate::discord::Discord;
use crate::handle::{Event, Handle};
use crate::limits::Limits;
use crate::logbook::Page;
use crate::metrics::Metrics;
use crate::moment::Moment;
use crate::pacer::{Grant, MOST_BUCKETS, WaiterId};
use crate::permit::Permit;
use crate::queue::{Config, Learned, Queue};
use crate::refusal::Reason;
use crate::secret::BotToken;
use crate::standing::Standing;
use crate::state::Granted;
use crate::term::Term;
use crate::token::Current;
use crate::traces;

/// How many events are taken before the turns are looked at again.
const BATCH: usize = 256;

/// So many of the last grants are remembered, for people.
const REMEMBERED: usize = 64;

/// One who waits for its turn.
struct Waiter {
    turn: oneshot::Sender<Permit>,
    _seat: OwnedSemaphorePermit,
}

/// See the module.
pub struct Keeper {
    config: Config,
    /// That of the last term, when this process leads no more.
    queue: Queue,
    standing: watch::Receiver<Standing>,
    /// The number of the term, while there is one,
    term: Option<u64>,
    /// and of the term that the queue is of.
    begun: Option<u64>,
    /// The fence: until when grants may be written.
    until: Moment,
    /// Who wants to know what is left, when no grant is on its way any more.
    leaving: Option<(String, Term, oneshot::Sender<Left>)>,
    alarm: Alarm,
    waiters: HashMap<WaiterId, Waiter>,
    /// The last grants, the oldest first.
    granted: VecDeque<Granted>,
    events: UnboundedReceiver<Event>,
    /// To make permits with.
    reports: UnboundedSender<Event>,
    tokens: watch::Receiver<Current>,
    discord: Discord,
    fetch: Option<Pin<Box<dyn Future<Output = Outcome> + Send>>>,
    reset_time: Option<Timestamp>,
    /// The token that was there last.
    last_token: Option<BotToken>,
    /// What was said last about why nothing is granted.
    told: Option<Option<Hold>>,
    logbook: watch::Sender<Page>,
    metrics: Arc<Metrics>,
}

impl Keeper {
    /// A keeper, and the way to it for at most `most` waiters. It leads when
    /// `standing` says so. What it has to say is published in `logbook`. Must
    /// be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the kernel has no timer.
    pub fn new(
        config: Config,
        most: usize,
        standing: watch::Receiver<Standing>,
        tokens: watch::Receiver<Current>,
        discord: Discord,
        logbook: watch::Sender<Page>,
        metrics: Arc<Metrics>,
    ) -> io::Result<(Self, Handle)> {
        let queue = Queue::new(&config, tokens.borrow().state(), clock::now());
        let (handle, reports, events) = Handle::new(most);
        let last_token = match &*tokens.borrow() {
            Current::Token(token) => Some(token.clone()),
            Current::Missing(_) | Current::None => None,
        };
        let mut keeper = Self {
            config,
            queue,
            standing,
            term: None,
            begun: None,
            until: Moment::ZERO,
            leaving: None,
            alarm: Alarm::new()?,
            waiters: HashMap::new(),
            granted: VecDeque::with_capacity(REMEMBERED),
            events,
            reports,
            tokens,
            discord,
            fetch: None,
            reset_time: None,
            last_token,
            told: None,
            logbook,
            metrics,
        };
        // Whoever reads it first must not read a guess.
        keeper.stand();
        keeper.tell_the_logbook();
        Ok((keeper, handle))
    }

    /// Runs for ever.
    ///
    /// # Errors
    ///
    /// When the kernel's timer fails: nothing could be granted in time then.
    pub async fn run(mut self) -> io::Result<()> {
        let mut batch = Vec::with_capacity(BATCH);
        if let Current::Missing(why) = &*self.tokens.borrow() {
            warn!(%why, "there is no token");
        }
        loop {
            self.tell();
            self.give_turns();
            self.fetch_if_due();
            self.tell();
            self.alarm.set(self.wake_at())?;
            let fetched = async {
                match &mut self.fetch {
                    Some(fetch) => fetch.await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                _ = self.events.recv_many(&mut batch, BATCH) => {
                    for event in batch.drain(..) {
                        self.take(event);
                    }
                }
                rang = self.alarm.ring() => rang?,
                outcome = fetched => self.fetched(outcome),
                // Errors are what can never change: not awaited then.
                Ok(()) = self.standing.changed() => self.stand(),
                Ok(()) = self.tokens.changed() => self.token_changed(),
            }
        }
    }

    /// Does what follows from where this process stands now.
    fn stand(&mut self) {
        let Standing { term, known, .. } = self.standing.borrow_and_update().clone();
        self.until = term.as_ref().map_or(Moment::ZERO, |term| term.until);
        let number = term.as_ref().map(|term| term.number);
        if number == self.term {
            return;
        }
        self.term = number;
        // Their turns never come here: they ask the next leader.
        self.waiters.clear();
        self.fetch = None;
        if let Some(term) = term {
            self.begun = number;
            let token = self.tokens.borrow().state();
            let now = clock::now();
            self.queue = Queue::inheriting(&self.config, token, &term.inheritance, now);
            let mark = self.last_token.as_ref().map(BotToken::mark);
            if let Some(known) = known.filter(|known| Some(&known.token_mark) == mark.as_ref())
                && token == Token::Unchecked
            {
                self.queue.adopt(known.limits, now);
            }
            self.reset_time = None;
            self.told = None;
        }
    }

    /// Whether it is the one that grants and fetches.
    fn leads(&self, now: Moment) -> bool {
        self.term.is_some() && now < self.until
    }

    fn wake_at(&self) -> Option<Moment> {
        match self.leads(clock::now()) {
            true => self.queue.wake_at(),
            false => None,
        }
    }

    fn take(&mut self, event: Event) {
        let now = clock::now();
        match event {
            Event::Offer {
                waiter,
                shard,
                arrived,
                turn,
                seat: _seat,
            } => {
                if self.term.is_none() {
                    self.stand();
                }
                if self.term.is_none() {
                    // The turn is dropped, which says so.
                    return;
                }
                if self.queue.offer_from(waiter, shard, arrived, now) {
                    self.metrics.kept_places_taken.inc();
                }
                self.waiters.insert(waiter, Waiter { turn, _seat });
            }
            Event::Gone(waiter) => {
                self.waiters.remove(&waiter);
                if self.queue.cancel(waiter, now) {
                    self.metrics.cancelled.inc();
                }
            }
            Event::GiveUp(waiter, sender) => {
                // It may have come in this very moment, when its turn is free.
                self.give_turns();
                if let Some(mut refusal) = self.queue.give_up(waiter, now) {
                    if !self.leads(now) {
                        refusal.reason = Reason::NoLeader;
                    }
                    self.waiters.remove(&waiter);
                    self.metrics.refused(refusal.reason.word());
                    let _ = sender.send(refusal);
                }
            }
            Event::Written { grant, at } => {
                self.queue.written(grant.waiter, at);
                let (waited, late) = (at.since(grant.arrived), at.since(grant.allowed));
                self.metrics.granted(waited, late);
                let Grant { shard, bucket, .. } = grant;
                let (waited_ms, late_us) = (ms(waited), us(late));
                debug!(shard, bucket, waited_ms, late_us, "granted");
                traces::granted(&grant, at);
                if self.granted.len() == REMEMBERED {
                    self.granted.pop_front();
                }
                self.granted.push_back(Granted { shard, bucket, at });
            }
            Event::Unwritten(waiter) => {
                self.queue.unwritten(waiter, now);
                self.metrics.cancelled.inc();
            }
            Event::Look(detail, sender) => {
                let _ = sender.send(self.snapshot(detail, now));
            }
            Event::Left(lease, term, sender) => {
                self.stand();
                self.leaving = Some((lease, term, sender));
            }
        }
        self.say_what_is_left(now);
    }

    fn say_what_is_left(&mut self, now: Moment) {
        if self.term.is_some() || self.queue.is_writing() {
            return;
        }
        if let Some((lease, term, sender)) = self.leaving.take() {
            // Who is told to end while it takes the Lease has never begun.
            let left = match self.begun == Some(term.number) {
                true => self.queue.left(&lease, now),
                false => term.inheritance.left(&lease, self.config.spacing, now),
            };
            let _ = sender.send(left);
        }
    }

    fn give_turns(&mut self) {
        loop {
            let now = clock::now();
            if !self.leads(now) {
                return;
            }
            let Some(grant) = self.queue.grant(now) else {
                return;
            };
            let permit = Permit::own(grant, self.until, self.reports.clone());
            // A permit that nobody takes reports that it was not written.
            if let Some(waiter) = self.waiters.remove(&grant.waiter) {
                let _ = waiter.turn.send(permit);
            }
        }
    }

    fn fetch_if_due(&mut self) {
        let now = clock::now();
        if !self.leads(now) || self.queue.fetch_at().is_none_or(|at| at > now) {
            return;
        }
        let current = self.tokens.borrow();
        if let Current::Token(token) = &*current {
            self.fetch = Some(Box::pin(self.discord.fetch(token)));
            self.queue.fetching(now);
        }
    }

    fn fetched(&mut self, outcome: Outcome) {
        self.fetch = None;
        self.metrics.fetched(&outcome);
        if let Outcome::Limits(limits) = outcome
            && limits.max_concurrency.is_none()
        {
            self.metrics.concurrency_refused.inc();
            warn!(
                "Discord said a max_concurrency that is not 1 to {MOST_BUCKETS}: it is not taken"
            );
        }
        let now = clock::now();
        let before = self.queue.budget().limits();
        match self.queue.fetched(outcome, now, fastrand::f64()) {
            Learned::Limits {
                limits,
                concurrency_was,
            } => {
                self.reset_time = telling::steady(self.reset_time, telling::reset_time(&limits));
                let Limits {
                    total,
                    remaining,
                    max_concurrency,
                    ..
                } = limits;
                if let Some(was) = concurrency_was {
                    info!(max_concurrency, was, "the number of buckets changed");
                }
                let steady = |before: Limits| {
                    (before.total, before.max_concurrency) == (total, max_concurrency)
                };
                match before.is_some_and(steady) {
                    true => debug!(total, remaining, max_concurrency, "Discord told the limits"),
                    false => info!(total, remaining, max_concurrency, "Discord told the limits"),
                }
            }
            Learned::Trouble => {
                let why = self.queue.budget().trouble().unwrap_or_default();
                let next_try = self.queue.fetch_at().map(|at| ms(at.since(now)));
                warn!(
                    why,
                    next_try_ms = next_try,
                    "cannot fetch the session starts"
                );
            }
        }
    }

    fn token_changed(&mut self) {
        let now = clock::now();
        self.fetch = None;
        self.reset_time = None;
        let current = self.tokens.borrow_and_update().clone();
        match &current {
            Current::Token(token) if self.last_token.as_ref() == Some(token) => {
                info!("the token is there again");
                return self.queue.token_returned(now);
            }
            Current::Token(token) => {
                info!("there is a new token");
                self.last_token = Some(token.clone());
            }
            Current::Missing(why) => warn!(%why, "there is no token"),
            Current::None => {}
        }
        self.queue.token_changed(current.state(), now);
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::unwrap_used)]
mod tests;
