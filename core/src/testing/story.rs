//! Plays a story to a [`Queue`] in simulated time, as the server's queue task does.

use std::collections::HashMap;
use std::time::Duration;

use crate::gateway_bot::Limits;
use crate::lease_state::TokenState;
use crate::pacing::pacer::WaiterId;
use crate::pacing::scheduler::{Config, Queue};
use crate::pacing::shard_history::ShardLimit;
use crate::pacing::{budget::Rules, discord_retry::Outcome};
use crate::time::Moment;

/// The interval between identifies that Discord demands.
pub const INTERVAL: Duration = Duration::from_secs(5);

/// An event at one instant.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// A shard asks for a grant.
    Ask(u32),
    /// The oldest request of the shard that waits is withdrawn.
    Leave(u32),
    /// From now on Discord reports this.
    Discord(Report),
    /// The queue is killed, and started with its guard.
    Restart,
}

/// Limits that Discord reports. The open window ends at `resets_at`.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// `max_concurrency`; 0 is none that can be used.
    pub buckets: u32,
    /// The session starts left.
    pub remaining: u64,
    /// The session starts of a window.
    pub total: u64,
    /// When the window ends.
    pub resets_at: Moment,
}

/// Returns a configuration without a margin, a start guard and a limit of the grants of a shard, with
/// one bucket.
pub fn config(reservation_ttl: Duration) -> Config {
    Config {
        spacing: INTERVAL,
        start_guard: false,
        reservation_ttl,
        shard_limit: ShardLimit::NONE,
        max_concurrency: 1,
        rules: Rules {
            interval: INTERVAL,
            reserve: 0,
            refresh: Duration::from_secs(300),
        },
    }
}

/// A queue in simulated time, with its clients and a Discord that answers immediately.
#[derive(Debug)]
pub struct Player {
    /// The queue.
    pub queue: Queue,
    /// What Discord reports; none while it cannot be reached.
    pub discord: Option<Report>,
    /// Whether Discord deducts each grant from what it reports.
    pub counts: bool,
    /// The shards that were granted, and when.
    pub grants: Vec<(u32, Moment)>,
    /// When Discord was asked.
    pub fetches: Vec<Moment>,
    config: Config,
    token: TokenState,
    now: Moment,
    waiting: HashMap<u32, Vec<WaiterId>>,
    waiters: u64,
}

impl Player {
    /// Returns a queue that was started at the beginning of simulated time.
    pub fn new(config: Config, token: TokenState) -> Self {
        Self {
            queue: Queue::new(&config, token, Moment::ZERO),
            discord: None,
            counts: false,
            grants: Vec::new(),
            fetches: Vec::new(),
            config,
            token,
            now: Moment::ZERO,
            waiting: HashMap::new(),
            waiters: 0,
        }
    }

    /// Plays these events, which are in order, and what happens until `end`.
    pub fn play(&mut self, events: impl IntoIterator<Item = (Moment, Event)>, end: Moment) {
        for (at, event) in events {
            self.run_to(at);
            self.happen(event);
        }
        self.run_to(end);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Ask(shard) => {
                self.waiters += 1;
                let id = WaiterId(self.waiters);
                self.queue.offer(id, shard, self.now);
                self.waiting.entry(shard).or_default().push(id);
            }
            Event::Leave(shard) => {
                let id = self.waiting.get_mut(&shard).unwrap().remove(0);
                assert!(
                    self.queue.cancel(id, self.now),
                    "shard {shard} is not waiting"
                );
            }
            Event::Discord(report) => self.discord = Some(report),
            Event::Restart => {
                self.config.start_guard = true;
                self.queue = Queue::new(&self.config, self.token, self.now);
                self.waiting.clear();
            }
        }
    }

    /// Events of one instant happen before the queue acts at that instant.
    fn run_to(&mut self, end: Moment) {
        while let Some(at) = self.queue.wake_at()
            && at.max(self.now) < end
        {
            self.now = self.now.max(at);
            self.act();
        }
        self.now = end;
    }

    fn act(&mut self) {
        let now = self.now;
        while let Some(grant) = self.queue.grant(now) {
            self.queue.written(grant.waiter, now);
            let waiting = self.waiting.get_mut(&grant.shard).unwrap();
            waiting.retain(|id| *id != grant.waiter);
            self.grants.push((grant.shard, now));
            if let Some(report) = self.discord.as_mut().filter(|_| self.counts) {
                report.remaining = report.remaining.saturating_sub(1);
            }
        }
        if self.queue.fetch_at().is_some_and(|at| at <= now) {
            self.fetches.push(now);
            self.queue.fetching(now);
            let outcome = match self.discord {
                Some(report) => Outcome::Limits(report.at(now)),
                None => Outcome::Unreachable("refused".to_owned()),
            };
            self.queue.fetched(outcome, now, 0.0);
        }
    }
}

impl Report {
    fn at(self, now: Moment) -> Limits {
        Limits {
            url: None,
            shards: 1,
            total: self.total,
            remaining: self.remaining,
            reset_after: self.resets_at.since(now),
            max_concurrency: Some(self.buckets).filter(|buckets| *buckets > 0),
        }
    }
}
