//! Pacing scenarios with exact expected results, in simulated time.

use std::ops::Range;
use std::time::Duration;

use gateway_queue_core::lease_state::TokenState;
use gateway_queue_core::pacing::scheduler::Config;
use gateway_queue_core::pacing::shard_history::ShardLimit;
use gateway_queue_core::testing::story::{self, Event, Player, Report};
use gateway_queue_core::time::Moment;

use Event::{Ask, Leave, Restart};

/// A story that was played to its end, in seconds.
struct Played {
    player: Player,
    grants: Vec<(u32, f64)>,
    fetches: Vec<f64>,
}

impl Played {
    fn times(&self) -> Vec<f64> {
        self.grants.iter().map(|(_, at)| *at).collect()
    }
}

fn play(m: u32, token: TokenState, events: impl IntoIterator<Item = (f64, Event)>) -> Played {
    play_with(m, token, false, 300, events)
}

fn play_with(
    m: u32,
    token: TokenState,
    start_guard: bool,
    refresh: u64,
    events: impl IntoIterator<Item = (f64, Event)>,
) -> Played {
    let mut config = story::config(Duration::from_secs(60));
    config.max_concurrency = m;
    config.start_guard = start_guard;
    config.rules.refresh = Duration::from_secs(refresh);
    play_config(config, token, events)
}

fn play_config(
    config: Config,
    token: TokenState,
    events: impl IntoIterator<Item = (f64, Event)>,
) -> Played {
    let mut player = Player::new(config, token);
    player.counts = true;
    let events = events.into_iter().map(|(at, event)| (moment(at), event));
    player.play(events, moment(1000.0));
    let seconds = |at: Moment| at.since(Moment::ZERO).as_secs_f64();
    Played {
        grants: player
            .grants
            .iter()
            .map(|(shard, at)| (*shard, seconds(*at)))
            .collect(),
        fetches: player.fetches.iter().copied().map(seconds).collect(),
        player,
    }
}

fn moment(seconds: f64) -> Moment {
    Moment::ZERO + Duration::from_secs_f64(seconds)
}

/// At this second Discord begins to report these limits.
fn reports(at: f64, max_concurrency: u32, remaining: u64, reset_after: u64) -> (f64, Event) {
    let report = Report {
        buckets: max_concurrency,
        remaining,
        total: 1000,
        resets_at: moment(at) + Duration::from_secs(reset_after),
    };
    (at, Event::Discord(report))
}

/// Plays without a token, which leaves only the pacing.
fn paced(m: u32, events: impl IntoIterator<Item = (f64, Event)>) -> Vec<(u32, f64)> {
    play(m, TokenState::None, events).grants
}

fn ask(shards: Range<u32>, at: f64) -> impl Iterator<Item = (f64, Event)> {
    shards.map(move |shard| (at, Ask(shard)))
}

#[test]
fn one_bucket_grants_at_the_interval() {
    let grants = paced(1, ask(0..3, 0.0));
    assert_eq!(grants, [(0, 0.0), (1, 5.0), (2, 10.0)]);
}

#[test]
fn two_buckets_grant_side_by_side() {
    let grants = paced(2, ask(0..4, 0.0));
    assert_eq!(grants, [(0, 0.0), (1, 0.0), (2, 5.0), (3, 5.0)]);
}

#[test]
fn each_bucket_has_its_own_clock() {
    let grants = paced(2, [(0.0, Ask(0)), (1.0, Ask(1)), (1.0, Ask(2))]);
    assert_eq!(grants, [(0, 0.0), (1, 1.0), (2, 5.0)]);
}

#[test]
fn an_idle_bucket_grants_immediately() {
    let grants = paced(1, ask(0..3, 100.0));
    assert_eq!(grants, [(0, 100.0), (1, 105.0), (2, 110.0)]);
}

#[test]
fn first_come_first_served() {
    let grants = paced(1, [(0.0, Ask(2)), (0.0, Ask(0)), (0.0, Ask(1))]);
    assert_eq!(grants, [(2, 0.0), (0, 5.0), (1, 10.0)]);
}

#[test]
fn disconnected_clients_take_no_slot_and_no_session_start() {
    let discord = [reports(0.0, 1, 1000, 3600)];
    let leave = [(2.0, Leave(1)), (4.9, Leave(2))];
    let events = discord.into_iter().chain(ask(0..4, 0.0)).chain(leave);
    let story = play_with(1, TokenState::Unchecked, false, 5000, events);
    assert_eq!(story.grants, [(0, 0.0), (3, 5.0)]);
    assert_eq!(story.player.queue.budget().remaining(), Some(998));
}

#[test]
fn a_shard_that_asks_again_takes_its_reservation() {
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
fn two_requests_of_one_shard_are_two_waiters() {
    let events = [(0.0, Ask(1)), (0.5, Ask(1)), (1.0, Ask(1)), (1.5, Ask(2))];
    assert_eq!(paced(1, events), [(1, 0.0), (1, 5.0), (1, 10.0), (2, 15.0)]);
}

#[test]
fn used_up_session_starts_block_grants_until_discord_reports_more() {
    let discord = [reports(0.0, 16, 3, 60)];
    let later = [reports(59.0, 16, 1000, 86_400)];
    let events = discord.into_iter().chain(ask(0..16, 0.0)).chain(later);
    let story = play(1, TokenState::Unchecked, events);
    assert_eq!(story.times(), [vec![0.0; 3], vec![60.0; 13]].concat());
    assert_eq!(story.fetches[..2], [0.0, 60.0]);
}

#[test]
fn the_last_session_starts_are_not_granted_if_others_use_them() {
    for (buckets, guard, at) in [
        (1, false, 0.001),
        (1, true, 0.001),
        (1, false, 101.0),
        (16, false, 0.001),
        (16, true, 0.001),
        (16, false, 101.0),
    ] {
        let discord = [reports(0.0, buckets, 12, 3600)];
        // After the first response, which is immediate.
        let others = [reports(at - 0.0005, buckets, 2, 3500)];
        let events = discord.into_iter().chain(others).chain(ask(0..12, at));
        let story = play_with(1, TokenState::Unchecked, guard, 300, events);
        assert_eq!(story.times().len(), 2, "{:?}", story.grants);
        // The first one is granted immediately, whenever Discord was asked before.
        assert!(guard || story.times()[0] == at, "{:?}", story.grants);
    }
}

#[test]
fn the_last_session_starts_are_granted_if_no_other_program_uses_them() {
    // At the interval; for the last one, Discord must have counted the one before it.
    let mut one_by_one: Vec<_> = (0..11).map(|n| 100.0 + 5.0 * f64::from(n)).collect();
    one_by_one.push(160.0);
    for (buckets, expected) in [(1, one_by_one), (16, vec![100.0; 12])] {
        let discord = [reports(0.0, buckets, 12, 3600)];
        let events = discord.into_iter().chain(ask(0..13, 100.0));
        let story = play(1, TokenState::Unchecked, events);
        let times: Vec<_> = story.times().iter().map(|at| at.round()).collect();
        assert_eq!(times, expected, "{:?}", story.fetches);
        assert!(story.fetches.windows(2).all(|f| f[1] - f[0] >= 5.0));
    }
}

#[test]
fn fewer_buckets_take_the_latest_old_grant() {
    let discord = [reports(0.0, 16, 1000, 3600)];
    let later = [reports(1.0, 1, 1000, 3600)];
    // The second fetch may be one interval after the first, at 5. The first 16 are granted at 1, so
    // that their spacing has not passed by then.
    let events = discord.into_iter().chain(ask(0..16, 1.0)).chain(later);
    let events = events.chain(ask(16..20, 2.0));
    let story = play_with(1, TokenState::Unchecked, false, 5, events);
    assert_eq!(story.times()[..16], [1.0; 16]);
    // At 2, four shards wait in the old buckets until 6; at 5 they move.
    assert_eq!(story.times()[16..], [6.0, 11.0, 16.0, 21.0]);
}

#[test]
fn more_buckets_free_all_waiters_at_once() {
    let discord = [reports(0.0, 1, 1000, 3600)];
    let later = [reports(5.5, 16, 1000, 3600)];
    let events = discord.into_iter().chain(ask(0..16, 0.0)).chain(later);
    let story = play_with(1, TokenState::Unchecked, false, 6, events);
    assert_eq!(story.grants[..2], [(0, 0.0), (1, 5.0)]);
    assert_eq!(story.times()[2..], [10.0; 14]);
}

#[test]
fn the_start_guard_waits_out_a_predecessor() {
    let story = play_with(1, TokenState::None, true, 300, [(0.0, Ask(1))]);
    assert_eq!(story.grants, [(1, 5.0)]);
}

#[test]
fn a_restart_keeps_the_spacing() {
    let events = [(0.0, Ask(0)), (1.2, Restart), (1.3, Ask(1))];
    assert_eq!(paced(1, events), [(0, 0.0), (1, 6.2)]);
}

#[test]
fn a_reset_after_of_zero_is_no_window_and_not_now() {
    let events = [reports(0.0, 1, 0, 0), (0.0, Ask(0))];
    let story = play(1, TokenState::Unchecked, events);
    assert!(story.grants.is_empty());
    assert!(story.fetches.windows(2).all(|f| f[1] - f[0] >= 5.0));
}

#[test]
fn while_discord_is_unreachable_nothing_is_granted() {
    let events = [(0.0, Ask(0)), reports(20.0, 1, 1000, 3600)];
    let story = play(1, TokenState::Unchecked, events);
    // The limits are fetched at 0, 1, 3, 7, 15 and 31.
    assert_eq!(story.grants, [(0, 31.0)]);
}

/// Plays with one bucket and at most this many grants of a shard within the window.
fn limited(
    burst: usize,
    window: u64,
    token: TokenState,
    events: impl IntoIterator<Item = (f64, Event)>,
) -> Played {
    let mut config = story::config(Duration::from_secs(60));
    let window = Duration::from_secs(window);
    config.shard_limit = ShardLimit { burst, window };
    play_config(config, token, events)
}

#[test]
fn a_shard_that_was_granted_too_often_is_held_and_others_pass() {
    let events = [0, 0, 0, 0, 0, 1].map(|shard| (0.0, Ask(shard)));
    let story = limited(3, 100, TokenState::None, events);
    let grants = [
        (0, 0.0),
        (0, 5.0),
        (0, 10.0),
        (1, 15.0),
        (0, 100.0),
        (0, 105.0),
    ];
    assert_eq!(story.grants, grants);
}

#[test]
fn discord_is_not_asked_for_a_shard_that_is_held() {
    let events = [reports(0.0, 1, 3, 3600), (0.0, Ask(0)), (0.0, Ask(0))];
    let story = limited(1, 60, TokenState::Unchecked, events);
    assert_eq!(story.grants, [(0, 0.0), (0, 60.0)]);
    assert_eq!(story.fetches[..2], [0.0, 60.0]);
}
