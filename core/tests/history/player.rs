//! Plays a history against a queue, with made-up time, before the judge.

use std::time::Duration;

use gateway_queue_core::lease_state::TokenState;
use gateway_queue_core::pacing::pacer::{Grant, WaiterId};
use gateway_queue_core::pacing::scheduler::{Config, Queue};
use gateway_queue_core::pacing::{budget::Rules, discord_retry::Outcome};
use gateway_queue_core::time::Moment;

use super::discord::Discord;
use super::judge::{Judge, Waiter};
use super::verdict::{Rule, Verdict, Violation};
use super::{History, Mood, Says, Step};

/// Discord's, and how long it may take to count an identify: twice this.
const INTERVAL: Duration = Duration::from_secs(5);

/// When everybody is served, once all is well: the longest pause, and a slot for
/// each.
const PATIENCE: Duration = Duration::from_secs(1500);

/// A queue as the keeper sees it, so that a broken one can take its place.
pub(crate) trait Turns {
    fn offer(&mut self, id: WaiterId, shard: u32, now: Moment) -> bool;
    fn cancel(&mut self, id: WaiterId, now: Moment) -> bool;
    fn grant(&mut self, now: Moment) -> Option<Grant>;
    fn written(&mut self, id: WaiterId, at: Moment);
    fn unwritten(&mut self, id: WaiterId, now: Moment);
    fn token_changed(&mut self, token: TokenState, now: Moment);
    fn fetching(&mut self, now: Moment);
    fn fetched(&mut self, outcome: Outcome, now: Moment, jitter: f64);
    fn fetch_at(&self) -> Option<Moment>;
    fn wake_at(&self) -> Option<Moment>;
}

impl Turns for Queue {
    fn offer(&mut self, id: WaiterId, shard: u32, now: Moment) -> bool {
        Queue::offer(self, id, shard, now)
    }

    fn cancel(&mut self, id: WaiterId, now: Moment) -> bool {
        Queue::cancel(self, id, now)
    }

    fn grant(&mut self, now: Moment) -> Option<Grant> {
        Queue::grant(self, now)
    }

    fn written(&mut self, id: WaiterId, at: Moment) {
        Queue::written(self, id, at);
    }

    fn unwritten(&mut self, id: WaiterId, now: Moment) {
        Queue::unwritten(self, id, now);
    }

    fn token_changed(&mut self, token: TokenState, now: Moment) {
        Queue::token_changed(self, token, now);
    }

    fn fetching(&mut self, now: Moment) {
        Queue::fetching(self, now);
    }

    fn fetched(&mut self, outcome: Outcome, now: Moment, jitter: f64) {
        Queue::fetched(self, outcome, now, jitter);
    }

    fn fetch_at(&self) -> Option<Moment> {
        Queue::fetch_at(self)
    }

    fn wake_at(&self) -> Option<Moment> {
        Queue::wake_at(self)
    }
}

/// How often the rare things happened, to know that they are tried at all.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) grants: u32,
    pub(crate) unwritten: u32,
    pub(crate) kept_places_taken: u32,
    pub(crate) changes_in_flight: u32,
    pub(crate) exhausted: u32,
    pub(crate) restarts: u32,
    pub(crate) on_a_low_budget: u32,
}

/// A grant on its way.
#[derive(Debug)]
struct Flight {
    waiter: Waiter,
    write_at: Moment,
    report_at: Moment,
    fails: bool,
    written: Option<Moment>,
}

#[derive(Debug)]
struct Fetch {
    arrives: Moment,
    answer: Outcome,
    read_at: Moment,
}

struct Player<Q, F> {
    start: F,
    config: Config,
    token: TokenState,
    queue: Q,
    judge: Judge,
    discord: Discord,
    now: Moment,
    last: u64,
    dice: fastrand::Rng,
    flights: Vec<Flight>,
    fetch: Option<Fetch>,
    /// Shards of those who went away.
    left: Vec<u32>,
    seen: Seen,
}

/// Plays the history to its end, and then on until all are served.
pub(crate) fn play<Q, F>(history: &History, start: F) -> Result<Seen, Violation>
where
    Q: Turns,
    F: Fn(&Config, TokenState, Moment) -> Q,
{
    let setup = history.setup;
    let config = Config {
        spacing: INTERVAL + Duration::from_millis(setup.margin_ms),
        start_guard: setup.guard,
        reservation_ttl: Duration::from_secs(setup.reservation_ttl_s),
        max_concurrency: setup.buckets,
        rules: Rules {
            interval: INTERVAL,
            reserve: setup.reserve,
            refresh: Duration::from_secs(setup.refresh_s),
        },
    };
    let token = match setup.token {
        true => TokenState::Unchecked,
        false => TokenState::None,
    };
    let now = Moment::ZERO + Duration::from_secs(100);
    let player = Player {
        queue: start(&config, token, now),
        start,
        judge: Judge::new(config, token, now),
        discord: Discord::new(setup.says, now),
        config,
        token,
        now,
        last: 0,
        dice: fastrand::Rng::with_seed(history.dice),
        flights: Vec::new(),
        fetch: None,
        left: Vec::new(),
        seen: Seen::default(),
    };
    player.run(&history.steps)
}

impl<Q: Turns, F: Fn(&Config, TokenState, Moment) -> Q> Player<Q, F> {
    fn run(mut self, steps: &[(u64, Step)]) -> Result<Seen, Violation> {
        for (gap, step) in steps {
            self.run_to(self.now + Duration::from_millis(*gap))?;
            self.step(*step)?;
        }
        self.discord.mood = Mood::Well;
        let says = Says {
            remaining: 1000,
            reset_after_s: 0,
            max_concurrency: Some(4),
        };
        self.discord.says(says, self.now);
        if self.token == TokenState::Missing {
            self.token_changed(TokenState::Unchecked);
        }
        self.run_to(self.now + PATIENCE)?;
        // The judge has seen that no slot passed unused; but if he, too, held for
        // ever by mistake, only this tells.
        if self.judge.waiting.is_empty() {
            return Ok(self.seen);
        }
        let what = format!("still waiting: {:?}", self.judge.waiting);
        Err(Violation::new(Rule::Starved, self.now, what))
    }

    fn step(&mut self, step: Step) -> Verdict {
        match step {
            Step::Ask(shard) => self.ask(shard)?,
            Step::Leave(n) => self.leave(n)?,
            Step::Return(n) if !self.left.is_empty() => {
                let n = n % self.left.len();
                let shard = self.left.remove(n);
                self.ask(shard)?;
            }
            Step::Return(_) => {}
            Step::Says(says) => self.discord.says(says, self.now),
            Step::Others(n) => self.discord.others_use(n, self.now),
            Step::Discord(mood) => self.discord.mood = mood,
            Step::TokenGone if self.token != TokenState::None => {
                self.token_changed(TokenState::Missing)
            }
            Step::TokenNew if self.token != TokenState::None => {
                self.token_changed(TokenState::Unchecked)
            }
            Step::TokenGone | Step::TokenNew => {}
            Step::Suspend(seconds) => {
                self.now = self.now + Duration::from_secs(seconds);
                self.happen()?;
            }
            Step::Restart { guard } => self.restart(guard)?,
        }
        Ok(())
    }

    fn ask(&mut self, shard: u32) -> Verdict {
        self.last += 1;
        let id = WaiterId(self.last);
        let took = self.queue.offer(id, shard, self.now);
        self.seen.kept_places_taken += u32::from(took);
        self.judge.offered(id, shard, took, self.now)
    }

    fn leave(&mut self, n: usize) -> Verdict {
        let both = self.judge.waiting.len() + self.flights.len();
        let Some(n) = n.checked_rem(both) else {
            return Ok(());
        };
        if let Some(waiter) = self.judge.waiting.get(n).copied() {
            self.left.push(waiter.shard);
            self.judge.left(waiter, self.now);
            self.queue.cancel(waiter.id, self.now);
            return Ok(());
        }
        // What is written stays written.
        let flight = &mut self.flights[n - self.judge.waiting.len()];
        if flight.written.is_none() {
            flight.fails = true;
            flight.write_at = self.now;
            flight.report_at = self.now;
        }
        self.happen()
    }

    fn token_changed(&mut self, token: TokenState) {
        self.token = token;
        self.fetch = None;
        self.discord.told_nothing();
        self.judge.token_changed(token, self.now);
        self.queue.token_changed(token, self.now);
    }

    fn restart(&mut self, guard: bool) -> Verdict {
        self.seen.restarts += 1;
        self.config.start_guard = guard;
        if !guard {
            // Whoever turns the guard off says that nothing is recent.
            self.discord.catch_up(self.now);
        }
        self.flights.clear();
        self.fetch = None;
        self.discord.restarted(self.now + INTERVAL * 2);
        let waiting = std::mem::take(&mut self.judge.waiting);
        self.judge.restart(self.config, self.token, self.now);
        self.queue = (self.start)(&self.config, self.token, self.now);
        waiting.iter().try_for_each(|w| self.ask(w.shard))
    }

    /// All that comes in one moment has come before the queue acts in it.
    fn run_to(&mut self, end: Moment) -> Verdict {
        if end == self.now {
            return Ok(());
        }
        loop {
            self.act()?;
            let flights = self.flights.iter().map(|f| match f.written {
                None if !f.fails => f.write_at,
                _ => f.report_at,
            });
            let fetch = self.fetch.iter().map(|f| f.arrives);
            let wake = self.queue.wake_at();
            match flights.chain(fetch).chain(wake).min() {
                Some(at) if at < end => self.now = self.now.max(at),
                _ => break,
            }
            self.happen()?;
        }
        self.now = end;
        self.happen()
    }

    /// All that the queue may do now, as the keeper would do it.
    fn act(&mut self) -> Verdict {
        while let Some(grant) = self.queue.grant(self.now) {
            self.take_off(grant)?;
        }
        if self.queue.fetch_at().is_some_and(|at| at <= self.now) {
            self.ask_discord()?;
        }
        let (wake_at, fetch_at) = (self.queue.wake_at(), self.queue.fetch_at());
        self.judge.sleeps(wake_at, fetch_at, self.now)
    }

    fn take_off(&mut self, grant: Grant) -> Verdict {
        self.seen.grants += 1;
        self.seen.on_a_low_budget += u32::from(self.judge.is_low());
        let in_air = self.flights.iter().filter(|f| f.written.is_none()).count();
        let left = self.discord.left().map(|left| left - in_air as i64);
        let waiter = self.judge.granted(&grant, left, self.now)?;
        let (write, report) = match self.dice.u8(0..10) {
            0..5 => (0, 0),
            5..8 => (self.dice.u64(0..200), 0),
            8 => (self.dice.u64(0..200), self.dice.u64(0..200)),
            // Long enough for Discord to answer meanwhile.
            _ => (self.dice.u64(0..3000), self.dice.u64(0..200)),
        };
        let write_at = self.now + Duration::from_millis(write);
        self.flights.push(Flight {
            waiter,
            write_at,
            report_at: write_at + Duration::from_millis(report),
            fails: self.dice.u8(0..8) == 0,
            written: None,
        });
        self.happen()
    }

    fn ask_discord(&mut self) -> Verdict {
        self.judge.fetching(self.now)?;
        self.queue.fetching(self.now);
        let latency = match self.dice.bool() {
            true => Duration::ZERO,
            false => Duration::from_millis(self.dice.u64(0..3000)),
        };
        // It may be read long before the answer arrives.
        self.fetch = Some(Fetch {
            arrives: self.now + latency,
            answer: self.discord.answer(self.now),
            read_at: self.now,
        });
        Ok(())
    }

    /// What was on its way and is there now.
    fn happen(&mut self) -> Verdict {
        let now = self.now;
        for flight in &mut self.flights {
            if flight.written.is_none() && flight.write_at <= now && !flight.fails {
                flight.written = Some(now);
                let late = self.dice.u64(0..=10_000);
                self.discord.identify(now + Duration::from_millis(late));
                self.judge.written(flight.waiter.id, now)?;
            }
            if flight.report_at <= now {
                let id = flight.waiter.id;
                match flight.written {
                    Some(at) => {
                        self.queue.written(id, at);
                        self.judge.reported(id, at);
                    }
                    None => {
                        self.seen.unwritten += 1;
                        self.left.push(flight.waiter.shard);
                        self.queue.unwritten(id, now);
                        self.judge.unwritten(id, now);
                    }
                }
            }
        }
        self.flights.retain(|f| f.report_at > now);
        if let Some(fetch) = self.fetch.take_if(|fetch| fetch.arrives <= now) {
            self.answered(fetch);
        }
        Ok(())
    }

    fn answered(&mut self, fetch: Fetch) {
        let buckets = self.judge.buckets();
        self.judge.fetched(&fetch.answer, self.now);
        let changed = buckets != self.judge.buckets();
        self.seen.changes_in_flight += u32::from(changed && !self.flights.is_empty());
        if let (Outcome::Limits(limits), true) = (&fetch.answer, self.judge.knows()) {
            self.discord.told(limits.remaining, fetch.read_at);
            self.seen.exhausted += u32::from(limits.remaining <= self.config.rules.reserve);
        }
        let jitter = self.dice.f64();
        self.queue.fetched(fetch.answer, self.now, jitter);
    }
}
