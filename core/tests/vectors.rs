//! Pacing cases with their answers, played with made-up time.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use gateway_queue_core::gateway_bot::Limits;
use gateway_queue_core::lease_state::TokenState;
use gateway_queue_core::pacing::budget::{Outcome, Rules};
use gateway_queue_core::pacing::pacer::WaiterId;
use gateway_queue_core::pacing::scheduler::{Config, Queue};
use gateway_queue_core::time::Moment;

/// What happens at one moment.
#[derive(Clone, Copy)]
enum Event {
    Ask(u32),
    /// The oldest live request of the shard goes away.
    Leave(u32),
    /// From now on Discord says: max_concurrency, remaining, reset after seconds.
    Discord(u32, u64, u64),
    /// The queue is killed and started again with its guard.
    Restart,
}
use Event::{Ask, Discord, Leave, Restart};

/// Plays events to their end and tells who was granted when.
struct Story {
    config: Config,
    token: TokenState,
    now: Moment,
    queue: Queue,
    /// The limits that Discord returns, less the grants since, and when their window ends.
    /// None while it does not answer.
    discord: Option<(Limits, Moment)>,
    waiters: HashMap<u32, Vec<WaiterId>>,
    last: u64,
    grants: Vec<(u32, f64)>,
    fetches: Vec<f64>,
}

impl Story {
    fn new(m: u32, token: TokenState) -> Self {
        Self::with(m, token, false, 300)
    }

    fn with(m: u32, token: TokenState, start_guard: bool, refresh: u64) -> Self {
        let config = Config {
            spacing: Duration::from_secs(5),
            start_guard,
            place_kept: Duration::from_secs(60),
            max_concurrency: m,
            rules: Rules {
                interval: Duration::from_secs(5),
                reserve: 0,
                refresh: Duration::from_secs(refresh),
            },
        };
        Self {
            queue: Queue::new(&config, token, Moment::ZERO),
            config,
            token,
            now: Moment::ZERO,
            discord: None,
            waiters: HashMap::new(),
            last: 0,
            grants: Vec::new(),
            fetches: Vec::new(),
        }
    }

    fn play(mut self, events: impl IntoIterator<Item = (f64, Event)>) -> Self {
        for (at, event) in events {
            self.run_to(moment(at));
            self.happen(event);
        }
        self.run_to(moment(1000.0));
        self
    }

    fn happen(&mut self, event: Event) {
        match event {
            Ask(shard) => {
                self.last += 1;
                let id = WaiterId(self.last);
                self.queue.offer(id, shard, self.now);
                self.waiters.entry(shard).or_default().push(id);
            }
            Leave(shard) => {
                let id = self.waiters.get_mut(&shard).unwrap().remove(0);
                assert!(self.queue.cancel(id, self.now));
            }
            Discord(m, remaining, reset_after) => {
                let reset_after = Duration::from_secs(reset_after);
                let limits = Limits {
                    shards: 1,
                    total: 1000,
                    remaining,
                    reset_after,
                    max_concurrency: Some(m),
                };
                self.discord = Some((limits, self.now + reset_after));
            }
            Restart => {
                self.config.start_guard = true;
                self.queue = Queue::new(&self.config, self.token, self.now);
                self.waiters.clear();
            }
        }
    }

    /// Events of one moment happen before the queue acts in it.
    fn run_to(&mut self, end: Moment) {
        while let Some(at) = self.queue.wake_at()
            && at.max(self.now) < end
        {
            self.now = self.now.max(at);
            self.act();
        }
        self.now = end;
    }

    /// All that may happen now, as the keeper would do it.
    fn act(&mut self) {
        while let Some(grant) = self.queue.grant(self.now) {
            self.queue.written(grant.waiter, self.now);
            let waiters = self.waiters.get_mut(&grant.shard).unwrap();
            waiters.retain(|id| *id != grant.waiter);
            self.grants.push((grant.shard, seconds(self.now)));
            if let Some((limits, _)) = &mut self.discord {
                limits.remaining = limits.remaining.saturating_sub(1);
            }
        }
        if self.queue.fetch_at().is_some_and(|at| at <= self.now) {
            self.fetches.push(seconds(self.now));
            self.queue.fetching(self.now);
            let outcome = match self.discord {
                Some((limits, window_ends)) => Outcome::Limits(Limits {
                    reset_after: window_ends.since(self.now),
                    ..limits
                }),
                None => Outcome::Unreachable("refused".to_owned()),
            };
            self.queue.fetched(outcome, self.now, 0.0);
        }
    }

    fn times(&self) -> Vec<f64> {
        self.grants.iter().map(|(_, at)| *at).collect()
    }
}

fn moment(seconds: f64) -> Moment {
    Moment::ZERO + Duration::from_secs_f64(seconds)
}

fn seconds(moment: Moment) -> f64 {
    moment.since(Moment::ZERO).as_secs_f64()
}

/// Without a token: only pacing.
fn paced(m: u32, events: impl IntoIterator<Item = (f64, Event)>) -> Vec<(u32, f64)> {
    Story::new(m, TokenState::None).play(events).grants
}

fn ask(shards: Range<u32>, at: f64) -> impl Iterator<Item = (f64, Event)> {
    shards.map(move |shard| (at, Ask(shard)))
}

#[test]
fn one_bucket_goes_at_the_interval() {
    let grants = paced(1, ask(0..3, 0.0));
    assert_eq!(grants, [(0, 0.0), (1, 5.0), (2, 10.0)]);
}

#[test]
fn two_buckets_go_side_by_side() {
    let grants = paced(2, ask(0..4, 0.0));
    assert_eq!(grants, [(0, 0.0), (1, 0.0), (2, 5.0), (3, 5.0)]);
}

#[test]
fn each_bucket_has_its_own_clock() {
    let grants = paced(2, [(0.0, Ask(0)), (1.0, Ask(1)), (1.0, Ask(2))]);
    assert_eq!(grants, [(0, 0.0), (1, 1.0), (2, 5.0)]);
}

#[test]
fn an_idle_bucket_grants_at_once() {
    let grants = paced(1, ask(0..3, 100.0));
    assert_eq!(grants, [(0, 100.0), (1, 105.0), (2, 110.0)]);
}

#[test]
fn first_come_first_served() {
    let grants = paced(1, [(0.0, Ask(2)), (0.0, Ask(0)), (0.0, Ask(1))]);
    assert_eq!(grants, [(2, 0.0), (0, 5.0), (1, 10.0)]);
}

#[test]
fn the_gone_take_no_slot_and_no_session_start() {
    let discord = [(0.0, Discord(1, 1000, 3600))];
    let leave = [(2.0, Leave(1)), (4.9, Leave(2))];
    let events = discord.into_iter().chain(ask(0..4, 0.0)).chain(leave);
    let story = Story::with(1, TokenState::Unchecked, false, 5000).play(events);
    assert_eq!(story.grants, [(0, 0.0), (3, 5.0)]);
    assert_eq!(story.queue.budget().remaining(), Some(998));
}

#[test]
fn a_place_is_kept_for_who_asks_again() {
    let events = [
        (0.0, Ask(9)),
        (0.5, Ask(1)),
        (1.0, Ask(2)),
        (2.5, Leave(1)),
        (3.5, Ask(1)),
    ];
    assert_eq!(paced(1, events), [(9, 0.0), (1, 5.0), (2, 10.0)]);
}

#[test]
fn two_live_requests_of_one_shard_are_two_waiters() {
    let events = [(0.0, Ask(1)), (0.5, Ask(1)), (1.0, Ask(1)), (1.5, Ask(2))];
    assert_eq!(paced(1, events), [(1, 0.0), (1, 5.0), (1, 10.0), (2, 15.0)]);
}

#[test]
fn used_up_session_starts_hold_until_discord_says_more() {
    let discord = [(0.0, Discord(16, 3, 60))];
    let later = [(59.0, Discord(16, 1000, 86_400))];
    let events = discord.into_iter().chain(ask(0..16, 0.0)).chain(later);
    let story = Story::new(1, TokenState::Unchecked).play(events);
    assert_eq!(story.times(), [vec![0.0; 3], vec![60.0; 13]].concat());
    assert_eq!(story.fetches[..2], [0.0, 60.0]);
}

#[test]
fn what_others_use_of_the_last_session_starts_is_not_granted() {
    for (buckets, guard, at) in [
        (1, false, 0.001),
        (1, true, 0.001),
        (1, false, 101.0),
        (16, false, 0.001),
        (16, true, 0.001),
        (16, false, 101.0),
    ] {
        let discord = [(0.0, Discord(buckets, 12, 3600))];
        // After the first answer, which comes at once.
        let others = [(at - 0.0005, Discord(buckets, 2, 3500))];
        let events = discord.into_iter().chain(others).chain(ask(0..12, at));
        let story = Story::with(1, TokenState::Unchecked, guard, 300).play(events);
        assert_eq!(story.times().len(), 2, "{:?}", story.grants);
        // The first does not wait, whenever the question before its own was.
        assert!(guard || story.times()[0] == at, "{:?}", story.grants);
    }
}

#[test]
fn the_last_session_starts_are_granted_when_nobody_else_uses_them() {
    // At the interval; but for the last, Discord must have counted the one before.
    let mut one_by_one: Vec<_> = (0..11).map(|n| 100.0 + 5.0 * f64::from(n)).collect();
    one_by_one.push(160.0);
    for (buckets, expected) in [(1, one_by_one), (16, vec![100.0; 12])] {
        let discord = [(0.0, Discord(buckets, 12, 3600))];
        let events = discord.into_iter().chain(ask(0..13, 100.0));
        let story = Story::new(1, TokenState::Unchecked).play(events);
        let times: Vec<_> = story.times().iter().map(|at| at.round()).collect();
        assert_eq!(times, expected, "{:?}", story.fetches);
        assert!(story.fetches.windows(2).all(|f| f[1] - f[0] >= 5.0));
    }
}

#[test]
fn fewer_buckets_take_the_latest_old_grant() {
    let discord = [(0.0, Discord(16, 1000, 3600))];
    let later = [(1.0, Discord(1, 1000, 3600))];
    // The next fetch may come one interval after the first, at 5, and would
    // find all clocks run out; so the first 16 come at 1.
    let events = discord.into_iter().chain(ask(0..16, 1.0)).chain(later);
    let events = events.chain(ask(16..20, 2.0));
    let mut story = Story::with(1, TokenState::Unchecked, false, 5);
    story = story.play(events);
    assert_eq!(story.times()[..16], [1.0; 16]);
    // At 2, four shards still wait in the old buckets until 6; at 5 they move.
    assert_eq!(story.times()[16..], [6.0, 11.0, 16.0, 21.0]);
}

#[test]
fn more_buckets_free_all_who_wait_at_once() {
    let discord = [(0.0, Discord(1, 1000, 3600))];
    let later = [(5.5, Discord(16, 1000, 3600))];
    let events = discord.into_iter().chain(ask(0..16, 0.0)).chain(later);
    let story = Story::with(1, TokenState::Unchecked, false, 6).play(events);
    assert_eq!(story.grants[..2], [(0, 0.0), (1, 5.0)]);
    assert_eq!(story.times()[2..], [10.0; 14]);
}

#[test]
fn the_start_guard_waits_out_a_predecessor() {
    let story = Story::with(1, TokenState::None, true, 300).play([(0.0, Ask(1))]);
    assert_eq!(story.grants, [(1, 5.0)]);
}

#[test]
fn a_restart_keeps_the_spacing() {
    let events = [(0.0, Ask(0)), (1.2, Restart), (1.3, Ask(1))];
    assert_eq!(paced(1, events), [(0, 0.0), (1, 6.2)]);
}

#[test]
fn a_reset_after_of_zero_is_no_window_and_not_now() {
    let events = [(0.0, Discord(1, 0, 0)), (0.0, Ask(0))];
    let story = Story::new(1, TokenState::Unchecked).play(events);
    assert!(story.grants.is_empty());
    assert!(story.fetches.windows(2).all(|f| f[1] - f[0] >= 5.0));
}

#[test]
fn while_discord_is_away_nothing_is_granted() {
    let events = [(0.0, Ask(0)), (20.0, Discord(1, 1000, 3600))];
    let story = Story::new(1, TokenState::Unchecked).play(events);
    // The tries are at 0, 1, 3, 7, 15 and 31.
    assert_eq!(story.grants, [(0, 31.0)]);
}
