//! Plays a history to a queue in simulated time, before the judge.

use std::collections::BTreeMap;
use std::time::Duration;

use gateway_queue_core::lease_state::TokenState;
use gateway_queue_core::pacing::discord_retry::Outcome;
use gateway_queue_core::pacing::pacer::{Grant, WaiterId};
use gateway_queue_core::pacing::scheduler::Config;
use gateway_queue_core::pacing::shard_history::ShardLimit;
use gateway_queue_core::testing::story::{self, INTERVAL};
use gateway_queue_core::time::Moment;

use super::discord::Discord;
use super::faulty_queue::{Fault, FaultyQueue};
use super::judge::{Judge, Waiter};
use super::rule::{Rule, Verdict, Violation};
use super::{History, Mode, Report, Step};

/// The time within which all waiters are granted once Discord answers normally: the longest pause,
/// and a slot for each.
const PATIENCE: Duration = Duration::from_secs(1500);

/// How often rare cases occurred, to verify that they are tested at all.
pub(crate) type Seen = BTreeMap<&'static str, u32>;

/// A grant in flight.
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

struct Player {
    fault: Option<Fault>,
    config: Config,
    token: TokenState,
    queue: FaultyQueue,
    judge: Judge,
    discord: Discord,
    now: Moment,
    last: u64,
    dice: fastrand::Rng,
    flights: Vec<Flight>,
    fetch: Option<Fetch>,
    /// The shards of disconnected clients.
    left: Vec<u32>,
    seen: Seen,
}

/// Plays the history to its end, and then until all waiters are granted.
pub(crate) fn play(history: &History, fault: Option<Fault>) -> Result<Seen, Violation> {
    let setup = history.setup;
    let mut config = story::config(Duration::from_secs(setup.reservation_ttl_s));
    config.spacing += Duration::from_millis(setup.margin_ms);
    config.start_guard = setup.guard;
    config.max_concurrency = setup.buckets;
    config.rules.reserve = setup.reserve;
    config.rules.refresh = Duration::from_secs(setup.refresh_s);
    config.shard_limit = ShardLimit {
        burst: setup.burst,
        window: Duration::from_millis(setup.window_ms),
    };
    let token = if setup.token {
        TokenState::Unchecked
    } else {
        TokenState::None
    };
    let now = Moment::ZERO + Duration::from_secs(100);
    let player = Player {
        fault,
        queue: FaultyQueue::new(fault, &config, token, now),
        judge: Judge::new(config, token, now),
        discord: Discord::new(setup.report, now),
        config,
        token,
        now,
        last: 0,
        dice: fastrand::Rng::with_seed(history.seed),
        flights: Vec::new(),
        fetch: None,
        left: Vec::new(),
        seen: Seen::new(),
    };
    player.run(&history.steps)
}

impl Player {
    fn run(mut self, steps: &[(u64, Step)]) -> Result<Seen, Violation> {
        for (gap, step) in steps {
            self.run_to(self.now + Duration::from_millis(*gap))?;
            self.step(*step)?;
        }
        self.discord.mode = Mode::Normal;
        let plenty = Report {
            remaining: 1000,
            reset_after_s: 0,
            max_concurrency: Some(4),
        };
        self.discord.report(plenty, self.now);
        if self.token == TokenState::Missing {
            self.token_changed(TokenState::Unchecked);
        }
        self.run_to(self.now + PATIENCE)?;
        // The judge has verified that no slot was wasted. Only this finds a request that the judge,
        // too, would hold forever.
        let waiting = &self.judge.waiting;
        Rule::Starved.check(waiting.is_empty(), self.now, || {
            format!("still waiting: {waiting:?}")
        })?;
        Ok(self.seen)
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
            Step::ShardReport(shard, report) => {
                self.queue.report(shard, report, self.now);
                let is_refused = self.judge.shard_reported(shard, report, self.now);
                self.saw("refused identifies", is_refused);
            }
            Step::Report(report) => self.discord.report(report, self.now),
            Step::Others(n) => self.discord.others_use(n, self.now),
            Step::Discord(mode) => self.discord.mode = mode,
            Step::TokenMissing if self.token != TokenState::None => {
                self.token_changed(TokenState::Missing)
            }
            Step::TokenNew if self.token != TokenState::None => {
                self.token_changed(TokenState::Unchecked)
            }
            Step::TokenMissing | Step::TokenNew => {}
            Step::Suspend(seconds) => {
                self.now = self.now + Duration::from_secs(seconds);
                self.happen()?;
            }
            Step::Restart(guard) => self.restart(guard)?,
        }
        Ok(())
    }

    fn saw(&mut self, case: &'static str, has_occurred: bool) {
        *self.seen.entry(case).or_default() += u32::from(has_occurred);
    }

    fn ask(&mut self, shard: u32) -> Verdict {
        self.last += 1;
        let id = WaiterId(self.last);
        let took = self.queue.offer(id, shard, self.now);
        self.saw("reservations taken", took);
        let is_held = self.judge.released_at(shard, self.now).is_some();
        self.saw("held waiters", is_held);
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
        // A written grant cannot be taken back.
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
        self.discord.received = None;
        self.judge.token_changed(token, self.now);
        self.queue.token_changed(token, self.now);
    }

    fn restart(&mut self, guard: bool) -> Verdict {
        self.saw("restarts", true);
        self.config.start_guard = guard;
        if !guard {
            // Without the guard, there are no recent grants.
            self.discord.catch_up(self.now);
        }
        self.flights.clear();
        self.fetch = None;
        self.discord.restarted(self.now + INTERVAL * 2);
        let waiting = std::mem::take(&mut self.judge.waiting);
        self.judge.restart(self.config, self.token, self.now);
        self.queue = FaultyQueue::new(self.fault, &self.config, self.token, self.now);
        waiting.iter().try_for_each(|w| self.ask(w.shard))
    }

    /// All events of one instant happen before the queue acts at that instant.
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

    /// Does all that is due now, as the queue task does.
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
        self.saw("grants", true);
        self.saw("grants on a low budget", self.judge.is_low());
        let in_flight = self.flights.iter().filter(|f| f.written.is_none()).count();
        let left = self.discord.left().map(|left| left - in_flight as i64);
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
        let latency = if self.dice.bool() {
            Duration::ZERO
        } else {
            Duration::from_millis(self.dice.u64(0..3000))
        };
        // Discord reads it long before the response arrives.
        self.fetch = Some(Fetch {
            arrives: self.now + latency,
            answer: self.discord.answer(self.now),
            read_at: self.now,
        });
        Ok(())
    }

    /// Delivers what is due now: writes, their reports and Discord's response.
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
                        *self.seen.entry("unwritten grants").or_default() += 1;
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
        let in_flight = !self.flights.is_empty();
        self.saw("bucket changes with grants in flight", changed && in_flight);
        if let (Outcome::Limits(limits), true) = (&fetch.answer, self.judge.knows()) {
            self.discord.received = Some((limits.remaining, fetch.read_at));
            let is_exhausted = limits.remaining <= self.config.rules.reserve;
            self.saw("exhausted session starts", is_exhausted);
        }
        let jitter = self.dice.f64();
        self.queue.fetched(fetch.answer, self.now, jitter);
    }
}
