//! Compares the queue with `InMemoryQueue` of twilight-gateway-queue 0.18, the peer: the same
//! grants at the same times where the rules agree, and a test for each difference. docs/peers.md
//! has the reasons for the differences.

// A test fails by panicking.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod side_by_side;

use std::collections::HashMap;
use std::time::Duration;

use gateway_queue_core::pacing::scheduler::Config;
use proptest::collection::vec;
use proptest::prelude::*;

use side_by_side::*;

const ASKS: [(u64, Event); 3] = [(0, Ask(0)), (0, Ask(1)), (0, Ask(2))];

/// Returns a configuration without reservations, which the peer does not have.
fn forgetful() -> Config {
    config(Duration::ZERO)
}

fn refreshing_after(seconds: u64) -> Config {
    let mut config = forgetful();
    config.rules.refresh = Duration::from_secs(seconds);
    config
}

/// Returns limits with one bucket and a window that ends at this millisecond.
fn limits(remaining: u64, total: u64, resets_at: u64) -> Report {
    Report {
        buckets: 1,
        remaining,
        total,
        resets_at: moment(resets_at),
    }
}

fn shards(grants: &Grants) -> Vec<u32> {
    grants.iter().map(|(_, shard)| *shard).collect()
}

fn times(grants: &Grants) -> Vec<u64> {
    grants.iter().map(|(ms, _)| *ms).collect()
}

/// Draws groups of requests that arrive together. Some leave, but never the last of a group.
fn groups() -> impl Strategy<Value = Vec<(u64, Vec<Option<u64>>)>> {
    let leaves_after = prop::option::weighted(0.4, 1..3000_u64);
    vec((0..2500_u64, vec(leaves_after, 0..4)), 1..12)
}

/// Returns the story of these groups, and its end. Each shard asks once.
///
/// A client leaves 5 ms off the 10 ms at which everything else happens, because two programs
/// cannot agree on the order of the events of one instant. Another client always waits behind it,
/// because the peer loses a grant for a client that has left.
fn story(groups: Vec<(u64, Vec<Option<u64>>)>) -> (Vec<(u64, Event)>, u64) {
    let (mut now, mut shard) = (0, 0);
    let mut story = Vec::new();
    let mut leave_at = HashMap::new();
    for (gap, members) in groups {
        now += gap * 10;
        for leaves_after in members.into_iter().chain([None]) {
            story.push((now, Ask(shard)));
            leave_at.extend(leaves_after.map(|after| (shard, now + after * 10 + 5)));
            shard += 1;
        }
    }
    let end = now + 5000 * u64::from(shard) + 10;
    // A client that is granted before it would leave stays. With one bucket and no other limit,
    // the times of the grants are known only when the story so far is played.
    let mut leaves: Vec<_> = leave_at
        .into_iter()
        .map(|(shard, at)| (at, shard))
        .collect();
    leaves.sort_unstable();
    for (at, shard) in leaves {
        let grants = ours(forgetful(), plenty(1), &story, end);
        if grants.iter().any(|grant| grant.1 == shard && grant.0 < at) {
            continue;
        }
        let place = story.partition_point(|(ms, _)| *ms < at);
        story.insert(place, (at, Leave(shard)));
    }
    (story, end)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn with_one_bucket_and_session_starts_both_grant_the_same_at_the_same_time(groups in groups()) {
        let (story, end) = story(groups);
        let (ours, peer) = (ours(forgetful(), plenty(1), &story, end), peer(plenty(1), &story, end));
        prop_assert!(!ours.is_empty());
        prop_assert_eq!(ours, peer, "ours, then the peer's, of {:?}", story);
    }

    #[test]
    fn when_all_arrive_at_once_both_serve_all_buckets_alike(buckets in 1..20_u32, count in 1..60_u32) {
        let story: Vec<_> = (0..count).map(|shard| (0, Ask(shard))).collect();
        let end = u64::from(count) * 5000 + 10;
        let ours = ours(forgetful(), plenty(buckets), &story, end);
        prop_assert_eq!(ours.len(), count as usize);
        prop_assert_eq!(ours, peer(plenty(buckets), &story, end));
    }
}

/// Plays the story to both, with reservations and no limit but the spacing.
fn both(buckets: u32, story: &Story) -> (Grants, Grants) {
    let end = 60 * SECOND;
    let mut config = config(Duration::from_secs(60));
    config.max_concurrency = buckets;
    let ours = ours(config, plenty(buckets), story, end);
    (ours, peer(plenty(buckets), story, end))
}

#[test]
fn the_peer_has_one_timer_for_all_buckets() {
    let (ours, peer) = both(2, &[(0, Ask(0)), (1000, Ask(1)), (1000, Ask(2))]);
    assert_eq!(ours, [(0, 0), (1000, 1), (5000, 2)]);
    assert_eq!(peer, [(0, 0), (5000, 2), (5000, 1)]);
}

#[test]
fn the_peer_loses_a_grant_for_a_client_that_has_left() {
    let before = [(0, Ask(0)), (1000, Ask(1)), (2000, Leave(1))];
    let (ours, peer) = both(1, &[&before[..], &[(6000, Ask(2))]].concat());
    assert_eq!(ours, [(0, 0), (6000, 2)]);
    assert_eq!(peer, [(0, 0), (10_000, 2)]);
}

#[test]
fn at_the_peer_a_client_that_returns_starts_at_the_end() {
    let asks = [(0, Ask(0)), (500, Ask(1)), (1000, Ask(2))];
    let returns = [(2000, Leave(1)), (3000, Ask(1))];
    let (ours, peer) = both(1, &[&asks[..], &returns].concat());
    assert_eq!(shards(&ours), [0, 1, 2]);
    assert_eq!(shards(&peer), [0, 2, 1]);
}

#[test]
fn the_peer_forgets_the_order_of_arrival_when_the_buckets_change() {
    let first = Report {
        resets_at: moment(24 * HOUR),
        ..plenty(2)
    };
    let one_bucket = Report {
        buckets: 1,
        ..first
    };
    let asks = [0, 1, 3, 2].map(|shard| (0, Ask(shard)));
    let story = [&asks[..], &[(1000, Discord(one_bucket))]].concat();
    // Ours learns of it before the next grants, too.
    let mut config = refreshing_after(5);
    config.spacing += Duration::from_secs(1);
    let ours = ours(config, first, &story, 60 * SECOND);
    assert_eq!(shards(&ours), [0, 1, 3, 2]);
    assert_eq!(shards(&peer(first, &story, 60 * SECOND)), [0, 1, 2, 3]);
}

#[test]
fn zero_buckets_are_no_limit_to_the_peer_and_end_it_when_a_client_waits() {
    let first = plenty(0);
    assert_eq!(times(&peer(first, &ASKS, 60 * SECOND)), [0, 0, 0]);
    assert_eq!(ours(forgetful(), first, &ASKS, 60 * SECOND), []);

    let story = [&ASKS[..], &[(1000, Discord(plenty(0)))]].concat();
    assert_eq!(times(&peer(plenty(1), &story, 60 * SECOND)), [0]);
    let ours = ours(refreshing_after(5), plenty(1), &story, 60 * SECOND);
    assert_eq!(times(&ours), [0, 5000, 10_000]);
}

#[test]
fn the_peer_refills_by_its_own_clock() {
    let first = limits(1, 1000, 60 * SECOND);
    assert_eq!(times(&peer(first, &ASKS[..2], HOUR)), [0, 60 * SECOND]);
    // The window ends, and Discord opens no new one.
    let used_up = limits(0, 1000, 0);
    let story = [&ASKS[..2], &[(SECOND, Discord(used_up))]].concat();
    assert_eq!(times(&ours(forgetful(), first, &story, HOUR)), [0]);
}

#[test]
fn the_peer_ignores_an_update_while_its_session_starts_are_used_up() {
    let first = limits(0, 1000, HOUR);
    let update = Discord(limits(1000, 1000, HOUR));
    let story = [(0, Ask(0)), (10 * SECOND, update)];
    assert_eq!(times(&peer(first, &story, 2 * HOUR)), [HOUR]);
    // At the refresh, and not when the window would have ended.
    let ours = ours(forgetful(), first, &story, 2 * HOUR);
    assert_eq!(times(&ours), [300 * SECOND]);
}

#[test]
fn the_peer_assumes_that_each_window_has_24_hours() {
    let first = limits(2, 2, 60 * SECOND);
    let end = 25 * HOUR;
    assert_eq!(times(&peer(first, &ASKS, end)), [0, 5 * SECOND, 24 * HOUR]);
    // Discord has counted both by 6 s. Ours asks, because others may have used some.
    let reports = [
        (6 * SECOND, Discord(limits(0, 2, 60 * SECOND))),
        (60 * SECOND, Discord(limits(2, 2, 2 * HOUR))),
    ];
    let story = [&ASKS[..], &reports].concat();
    let ours = ours(forgetful(), first, &story, end);
    assert_eq!(times(&ours), [0, 5 * SECOND, 60 * SECOND]);
}

#[test]
fn the_peer_forgets_what_discord_has_not_counted_yet() {
    let first = limits(2, 1000, HOUR);
    // Both are used by 5 s. The report at 6 s does not count them yet.
    let story = [&ASKS[..], &[(6 * SECOND, Discord(first))]].concat();
    let peer = peer(first, &story, 600 * SECOND);
    assert_eq!(times(&peer), [0, 5 * SECOND, 10 * SECOND]);
    // Discord has counted them when it must have.
    let counted = Discord(limits(0, 1000, HOUR));
    let story = [&story[..], &[(9 * SECOND, counted)]].concat();
    let ours = ours(refreshing_after(6), first, &story, 11 * SECOND);
    assert_eq!(times(&ours), [0, 5 * SECOND]);
}

#[test]
fn the_peer_grants_without_regard_to_a_predecessor() {
    let config = Config {
        start_guard: true,
        ..forgetful()
    };
    let story = [(0, Ask(0))];
    assert_eq!(times(&peer(plenty(1), &story, 60 * SECOND)), [0]);
    assert_eq!(times(&ours(config, plenty(1), &story, 60 * SECOND)), [5000]);
}
