//! A queue with a fault on purpose, which the judge must find; without one, the queue as it is.

use std::time::Duration;

use gateway_queue_core::gateway_bot::Limits;
use gateway_queue_core::lease_state::TokenState;
use gateway_queue_core::pacing::discord_retry::Outcome;
use gateway_queue_core::pacing::pacer::{Grant, WaiterId};
use gateway_queue_core::pacing::scheduler::{Config, Queue};
use gateway_queue_core::protocol::request;
use gateway_queue_core::time::Moment;

use super::rule::Rule;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    SpacingShortByOneNanosecond,
    NoStartGuard,
    SpacingForgottenWhenBucketsChange,
    CancelIgnored,
    LastComeFirstServed,
    NoReservations,
    UnwrittenGrantLosesItsSlot,
    WakesLate,
    ReplenishedByItsOwnClock,
    OpenWhenAFetchFails,
    UncountedIdentifiesForgotten,
    ReserveForgotten,
    OpenWhileUnknown,
    NeverFetchesAgain,
    FetchesTooOften,
    NoGrantForAWhile,
    OldResponsesConfirm,
    AnyResponseConfirms,
    OneGrantTooMany,
    HeldTooLong,
    OthersHeldToo,
    InvalidSessionsIgnored,
    ReportFreesItsBucket,
}

use Fault::*;

/// Each fault, and the rule that it breaks.
pub(crate) const FAULTS: [(Fault, Rule); 23] = [
    (SpacingShortByOneNanosecond, Rule::Spacing),
    (NoStartGuard, Rule::Spacing),
    (SpacingForgottenWhenBucketsChange, Rule::Spacing),
    (CancelIgnored, Rule::Disconnected),
    (LastComeFirstServed, Rule::Order),
    (NoReservations, Rule::Order),
    (UnwrittenGrantLosesItsSlot, Rule::Waste),
    (WakesLate, Rule::Waste),
    (ReplenishedByItsOwnClock, Rule::Budget),
    (OpenWhenAFetchFails, Rule::Budget),
    (UncountedIdentifiesForgotten, Rule::Budget),
    (ReserveForgotten, Rule::Budget),
    (OpenWhileUnknown, Rule::Blocked),
    (NeverFetchesAgain, Rule::Fetches),
    (FetchesTooOften, Rule::Fetches),
    (NoGrantForAWhile, Rule::Waste),
    (OldResponsesConfirm, Rule::Budget),
    (AnyResponseConfirms, Rule::Budget),
    (OneGrantTooMany, Rule::Burst),
    (HeldTooLong, Rule::Waste),
    (OthersHeldToo, Rule::Waste),
    (InvalidSessionsIgnored, Rule::Spacing),
    (ReportFreesItsBucket, Rule::Spacing),
];

/// A queue, as the queue task uses it.
pub(crate) struct FaultyQueue {
    fault: Option<Fault>,
    config: Config,
    is_without_token: bool,
    queue: Queue,
    waiting: Vec<(WaiterId, u32)>,
    /// The number of requests so far.
    offered: u64,
    window: Option<(Limits, Moment)>,
    answered: Moment,
    last_answer: Option<Limits>,
}

impl FaultyQueue {
    pub(crate) fn new(
        fault: Option<Fault>,
        config: &Config,
        token: TokenState,
        now: Moment,
    ) -> Self {
        let mut config = *config;
        match fault {
            Some(SpacingShortByOneNanosecond) => config.spacing -= Duration::from_nanos(1),
            Some(NoStartGuard) => config.start_guard = false,
            Some(NoReservations) => config.reservation_ttl = Duration::ZERO,
            Some(UncountedIdentifiesForgotten) => config.rules.interval = Duration::ZERO,
            Some(ReserveForgotten) => config.rules.reserve = 0,
            Some(OneGrantTooMany) if config.shard_limit.burst > 0 => config.shard_limit.burst += 1,
            Some(HeldTooLong) => config.shard_limit.window *= 2,
            _ => {}
        }
        let mut queue = Self {
            fault,
            config,
            is_without_token: token == TokenState::None,
            queue: Queue::new(&config, token, now),
            waiting: Vec::new(),
            offered: 0,
            window: None,
            answered: now,
            last_answer: None,
        };
        queue.open_if_unknown(token, now);
        queue
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn open_if_unknown(&mut self, token: TokenState, now: Moment) {
        if self.is(OpenWhileUnknown) && token == TokenState::Unchecked {
            self.pretend(plenty(1), now);
        }
    }

    /// Makes the queue believe that Discord has just reported this.
    fn pretend(&mut self, limits: Limits, now: Moment) {
        self.queue.fetching(now);
        self.queue.fetched(Outcome::Limits(limits), now, 0.0);
    }

    pub(crate) fn offer(&mut self, id: WaiterId, shard: u32, now: Moment) -> bool {
        self.offered += 1;
        self.waiting.push((id, shard));
        let arrived = match self.fault {
            // An arrival before that of all waiters.
            Some(LastComeFirstServed) => Moment::from_nanos(1_000_000 - self.offered),
            _ => now,
        };
        self.queue.offer(id, shard, arrived)
    }

    pub(crate) fn cancel(&mut self, id: WaiterId, now: Moment) -> bool {
        if self.is(CancelIgnored) {
            return true;
        }
        self.waiting.retain(|(waiter, _)| *waiter != id);
        self.queue.cancel(id, now)
    }

    pub(crate) fn report(&mut self, shard: u32, report: request::Report, now: Moment) {
        match self.fault {
            Some(InvalidSessionsIgnored) => {}
            Some(ReportFreesItsBucket) if self.is_without_token => {
                self.start_again(TokenState::None, now);
            }
            _ => self.queue.report(shard, report, now),
        }
    }

    /// Forgets everything but the waiters.
    fn start_again(&mut self, token: TokenState, now: Moment) {
        self.config.start_guard = false;
        self.queue = Queue::new(&self.config, token, now);
        for (id, shard) in &self.waiting {
            self.queue.offer(*id, *shard, now);
        }
    }

    pub(crate) fn grant(&mut self, now: Moment) -> Option<Grant> {
        if self.is(ReplenishedByItsOwnClock)
            && let Some((mut full, _)) = self.window.take_if(|(_, at)| *at <= now)
            && self.queue.fetch_at().is_some()
        {
            (full.remaining, full.reset_after) = (full.total, Duration::ZERO);
            self.pretend(full, now);
        }
        let again = match self.fault {
            Some(OldResponsesConfirm) => true,
            Some(AnyResponseConfirms) => self.answered == now,
            _ => false,
        };
        if again
            && self.queue.budget().is_low()
            && self.queue.fetch_at().is_some()
            && let Some(limits) = self.last_answer.clone()
        {
            self.pretend(limits, now);
        }
        // Nothing is granted until the eighth request.
        if self.is(NoGrantForAWhile) && self.offered == 7 {
            return None;
        }
        if self.is(OthersHeldToo) && self.queue.crash_looping_count() > 0 {
            return None;
        }
        let grant = self.queue.grant(now)?;
        self.waiting.retain(|(waiter, _)| *waiter != grant.waiter);
        Some(grant)
    }

    pub(crate) fn written(&mut self, id: WaiterId, at: Moment) {
        self.queue.written(id, at);
    }

    pub(crate) fn unwritten(&mut self, id: WaiterId, now: Moment) {
        match self.fault {
            Some(UnwrittenGrantLosesItsSlot) => self.queue.written(id, now),
            _ => self.queue.unwritten(id, now),
        }
    }

    pub(crate) fn token_changed(&mut self, token: TokenState, now: Moment) {
        self.queue.token_changed(token, now);
        self.open_if_unknown(token, now);
    }

    pub(crate) fn fetching(&mut self, now: Moment) {
        self.queue.fetching(now);
    }

    pub(crate) fn fetched(&mut self, outcome: Outcome, now: Moment, jitter: f64) {
        self.answered = now;
        let before = self.queue.concurrency();
        if let Outcome::Limits(limits) = &outcome {
            let window = limits.reset_after;
            self.window = (!window.is_zero()).then(|| (limits.clone(), now + window));
            self.last_answer = limits.max_concurrency.map(|_| limits.clone());
        }
        match (self.fault, &outcome) {
            (Some(OpenWhenAFetchFails), Outcome::Unreachable(_) | Outcome::Invalid(_)) => {
                let limits = plenty(before.unwrap_or(1));
                self.queue.fetched(Outcome::Limits(limits), now, jitter);
            }
            (Some(SpacingForgottenWhenBucketsChange), Outcome::Limits(limits))
                if before != limits.max_concurrency && limits.max_concurrency.is_some() =>
            {
                let limits = limits.clone();
                self.start_again(TokenState::Unchecked, now);
                self.pretend(limits, now);
            }
            _ => {
                self.queue.fetched(outcome, now, jitter);
            }
        }
    }

    pub(crate) fn fetch_at(&self) -> Option<Moment> {
        let fetch_at = self.queue.fetch_at()?;
        match self.fault {
            Some(NeverFetchesAgain)
                if self.queue.blocked_by().is_some() && self.window.is_some() =>
            {
                None
            }
            Some(FetchesTooOften) => Some(fetch_at.min(self.answered + Duration::from_secs(4))),
            _ => Some(fetch_at),
        }
    }

    pub(crate) fn wake_at(&self) -> Option<Moment> {
        let wake_at = self.queue.wake_at();
        match self.fault {
            Some(WakesLate) => wake_at.map(|at| at + Duration::from_millis(1)),
            Some(NeverFetchesAgain | FetchesTooOften) => {
                wake_at.into_iter().chain(self.fetch_at()).min()
            }
            _ => wake_at,
        }
    }
}

fn plenty(buckets: u32) -> Limits {
    Limits {
        url: None,
        shards: 1,
        total: 1000,
        remaining: 1000,
        reset_after: Duration::ZERO,
        max_concurrency: Some(buckets),
    }
}
