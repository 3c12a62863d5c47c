//! Queues that are broken on purpose: the judge must tell.

use std::time::Duration;

use gateway_queue_core::gateway_bot::Limits;
use gateway_queue_core::lease_state::TokenState;
use gateway_queue_core::pacing::discord_retry::Outcome;
use gateway_queue_core::pacing::pacer::{Grant, WaiterId};
use gateway_queue_core::pacing::scheduler::{Config, Queue};
use gateway_queue_core::time::Moment;

use super::player::Turns;
use super::verdict::Rule;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    SpacingShortByOneNanosecond,
    NoStartGuard,
    ClocksForgottenWhenBucketsChange,
    CancelIgnored,
    LastComeFirstServed,
    NoReservations,
    UnwrittenGrantLosesItsSlot,
    WakesLate,
    RefilledByItsOwnClock,
    OpenWhenAFetchFails,
    UncountedIdentifiesForgotten,
    ReserveForgotten,
    OpenWhileUnknown,
    NeverAsksAgain,
    AsksTooOften,
    NobodyServedForAWhile,
    OldAnswersOnALowBudget,
    AnyAnswerConfirmsALowBudget,
}

use Fault::*;

/// Each fault, and the rule that it breaks.
pub(crate) const FAULTS: [(Fault, Rule); 18] = [
    (SpacingShortByOneNanosecond, Rule::Spacing),
    (NoStartGuard, Rule::Spacing),
    (ClocksForgottenWhenBucketsChange, Rule::Spacing),
    (CancelIgnored, Rule::Gone),
    (LastComeFirstServed, Rule::Order),
    (NoReservations, Rule::Order),
    (UnwrittenGrantLosesItsSlot, Rule::Waste),
    (WakesLate, Rule::Waste),
    (RefilledByItsOwnClock, Rule::Budget),
    (OpenWhenAFetchFails, Rule::Budget),
    (UncountedIdentifiesForgotten, Rule::Budget),
    (ReserveForgotten, Rule::Budget),
    (OpenWhileUnknown, Rule::Held),
    (NeverAsksAgain, Rule::Fetches),
    (AsksTooOften, Rule::Fetches),
    (NobodyServedForAWhile, Rule::Waste),
    (OldAnswersOnALowBudget, Rule::Budget),
    (AnyAnswerConfirmsALowBudget, Rule::Budget),
];

pub(crate) struct Broken {
    fault: Fault,
    config: Config,
    queue: Queue,
    /// Who waits, the first first.
    waiting: Vec<(WaiterId, u32)>,
    came: u64,
    window: Option<(Limits, Moment)>,
    answered: Moment,
    last_answer: Option<Limits>,
}

impl Broken {
    pub(crate) fn new(fault: Fault, config: &Config, token: TokenState, now: Moment) -> Self {
        let mut config = *config;
        match fault {
            SpacingShortByOneNanosecond => config.spacing -= Duration::from_nanos(1),
            NoStartGuard => config.start_guard = false,
            NoReservations => config.reservation_ttl = Duration::ZERO,
            UncountedIdentifiesForgotten => config.rules.interval = Duration::ZERO,
            ReserveForgotten => config.rules.reserve = 0,
            _ => {}
        }
        let mut broken = Self {
            fault,
            config,
            queue: Queue::new(&config, token, now),
            waiting: Vec::new(),
            came: 0,
            window: None,
            answered: now,
            last_answer: None,
        };
        broken.open_if_unknown(token, now);
        broken
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn open_if_unknown(&mut self, token: TokenState, now: Moment) {
        if self.is(OpenWhileUnknown) && token == TokenState::Unchecked {
            self.pretend(plenty(1), now);
        }
    }

    /// Makes the queue believe that Discord has just said this.
    fn pretend(&mut self, limits: Limits, now: Moment) {
        self.queue.fetching(now);
        self.queue.fetched(Outcome::Limits(limits), now, 0.0);
    }
}

fn plenty(buckets: u32) -> Limits {
    Limits {
        shards: 1,
        total: 1000,
        remaining: 1000,
        reset_after: Duration::ZERO,
        max_concurrency: Some(buckets),
    }
}

impl Turns for Broken {
    fn offer(&mut self, id: WaiterId, shard: u32, now: Moment) -> bool {
        self.came += 1;
        self.waiting.push((id, shard));
        let came = match self.fault {
            // An arrival before that of everybody who is there.
            LastComeFirstServed => Moment::from_nanos(1_000_000 - self.came),
            _ => now,
        };
        self.queue.offer(id, shard, came)
    }

    fn cancel(&mut self, id: WaiterId, now: Moment) -> bool {
        if self.is(CancelIgnored) {
            return true;
        }
        self.waiting.retain(|(waiter, _)| *waiter != id);
        self.queue.cancel(id, now)
    }

    fn grant(&mut self, now: Moment) -> Option<Grant> {
        if self.is(RefilledByItsOwnClock)
            && let Some((limits, _)) = self.window.take_if(|(_, at)| *at <= now)
            && self.queue.fetch_at().is_some()
        {
            let remaining = limits.total;
            let reset_after = Duration::ZERO;
            self.pretend(
                Limits {
                    remaining,
                    reset_after,
                    ..limits
                },
                now,
            );
        }
        let again = match self.fault {
            OldAnswersOnALowBudget => true,
            AnyAnswerConfirmsALowBudget => self.answered == now,
            _ => false,
        };
        if again
            && self.queue.budget().is_low()
            && self.queue.fetch_at().is_some()
            && let Some(limits) = self.last_answer
        {
            self.pretend(limits, now);
        }
        // Nobody goes until the eighth has come.
        if self.is(NobodyServedForAWhile) && self.came == 7 {
            return None;
        }
        let grant = self.queue.grant(now)?;
        self.waiting.retain(|(waiter, _)| *waiter != grant.waiter);
        Some(grant)
    }

    fn written(&mut self, id: WaiterId, at: Moment) {
        self.queue.written(id, at);
    }

    fn unwritten(&mut self, id: WaiterId, now: Moment) {
        match self.fault {
            UnwrittenGrantLosesItsSlot => self.queue.written(id, now),
            _ => self.queue.unwritten(id, now),
        }
    }

    fn token_changed(&mut self, token: TokenState, now: Moment) {
        self.queue.token_changed(token, now);
        self.open_if_unknown(token, now);
    }

    fn fetching(&mut self, now: Moment) {
        self.queue.fetching(now);
    }

    fn fetched(&mut self, outcome: Outcome, now: Moment, jitter: f64) {
        self.answered = now;
        let before = self.queue.concurrency();
        if let Outcome::Limits(limits) = &outcome {
            let window = limits.reset_after;
            self.window = (!window.is_zero()).then_some((*limits, now + window));
            self.last_answer = limits.max_concurrency.map(|_| *limits);
        }
        match (self.fault, &outcome) {
            (OpenWhenAFetchFails, Outcome::Unreachable(_) | Outcome::Invalid(_)) => {
                let limits = plenty(before.unwrap_or(1));
                self.queue.fetched(Outcome::Limits(limits), now, jitter);
            }
            (ClocksForgottenWhenBucketsChange, Outcome::Limits(limits))
                if before != limits.max_concurrency && limits.max_concurrency.is_some() =>
            {
                let limits = *limits;
                self.config.start_guard = false;
                self.queue = Queue::new(&self.config, TokenState::Unchecked, now);
                self.pretend(limits, now);
                for (id, shard) in &self.waiting {
                    self.queue.offer(*id, *shard, now);
                }
            }
            _ => {
                self.queue.fetched(outcome, now, jitter);
            }
        }
    }

    fn fetch_at(&self) -> Option<Moment> {
        let fetch_at = self.queue.fetch_at()?;
        match self.fault {
            NeverAsksAgain if self.queue.blocked_by().is_some() && self.window.is_some() => None,
            AsksTooOften => Some(fetch_at.min(self.answered + Duration::from_secs(4))),
            _ => Some(fetch_at),
        }
    }

    fn wake_at(&self) -> Option<Moment> {
        let wake_at = self.queue.wake_at();
        match self.fault {
            WakesLate => wake_at.map(|at| at + Duration::from_millis(1)),
            NeverAsksAgain | AsksTooOften => wake_at.into_iter().chain(self.fetch_at()).min(),
            _ => wake_at,
        }
    }
}
