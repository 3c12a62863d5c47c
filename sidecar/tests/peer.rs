//! Side by side with `InMemoryQueue` of twilight-gateway-queue 0.18: the same
//! grants at the same times where the rules agree, and a test for each
//! difference. docs/peers.md says why there is one.

// A test fails by panicking.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod side_by_side;

use std::collections::HashMap;
use std::time::Duration;

use gateway_queue_core::pacing::scheduler::Config;
use proptest::collection::vec;
use proptest::prelude::*;

use side_by_side::*;

/// We keep places, the peer does not: switched off, to compare the rest.
fn forgetful() -> Config {
    config(Duration::ZERO)
}

fn shards(grants: &Grants) -> Vec<u32> {
    grants.iter().map(|(_, shard)| *shard).collect()
}

fn times(grants: &Grants) -> Vec<u64> {
    grants.iter().map(|(ms, _)| *ms).collect()
}

/// Groups of requests that come together, the last of which stays; of the
/// others some leave: see the next function for why.
fn groups() -> impl Strategy<Value = Vec<(u64, Vec<Option<u64>>)>> {
    let leaves_after = prop::option::weighted(0.4, 1..3000_u64);
    vec((0..2500_u64, vec(leaves_after, 0..4)), 1..12)
}

/// A story of groups, each shard of it once. Who leaves does so 5 ms off the
/// 10 ms that all else happens at: what happens in one moment has no order that
/// two programs could agree on. Somebody always stays behind those who leave: a
/// turn that finds nobody any more is lost at the peer.
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
    // Whose turn comes before it leaves, stays. One bucket, no other limit: the
    // clock of the turns is known only when it is played.
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
    fn when_all_come_at_once_both_serve_all_buckets_alike(buckets in 1..20_u32, count in 1..60_u32) {
        let story: Vec<_> = (0..count).map(|shard| (0, Ask(shard))).collect();
        let end = u64::from(count) * 5000 + 10;
        let ours = ours(forgetful(), plenty(buckets), &story, end);
        prop_assert_eq!(ours.len(), count as usize);
        prop_assert_eq!(ours, peer(plenty(buckets), &story, end));
    }
}

/// Both play the story, with nothing but the spacing.
fn both(buckets: u32, story: &Story) -> (Grants, Grants) {
    let end = 60 * SECOND;
    let kept = config(Duration::from_secs(60));
    let config = Config {
        max_concurrency: buckets,
        ..kept
    };
    (
        ours(config, plenty(buckets), story, end),
        peer(plenty(buckets), story, end),
    )
}

#[test]
fn the_peer_has_one_timer_for_all_buckets() {
    let (ours, peer) = both(2, &[(0, Ask(0)), (1000, Ask(1)), (1000, Ask(2))]);
    assert_eq!(ours, [(0, 0), (1000, 1), (5000, 2)]);
    assert_eq!(peer, [(0, 0), (5000, 2), (5000, 1)]);
}

#[test]
fn at_the_peer_a_turn_that_finds_nobody_is_lost() {
    let (ours, peer) = both(
        1,
        &[
            (0, Ask(0)),
            (1000, Ask(1)),
            (2000, Leave(1)),
            (6000, Ask(2)),
        ],
    );
    assert_eq!(ours, [(0, 0), (6000, 2)]);
    assert_eq!(peer, [(0, 0), (10_000, 2)]);
}

#[test]
fn at_the_peer_who_comes_back_starts_at_the_end() {
    let back = [(2000, Leave(1)), (3000, Ask(1))];
    let (ours, peer) = both(
        1,
        &[&[(0, Ask(0)), (500, Ask(1)), (1000, Ask(2))], &back[..]].concat(),
    );
    assert_eq!(shards(&ours), [0, 1, 2]);
    assert_eq!(shards(&peer), [0, 2, 1]);
}

#[test]
fn the_peer_forgets_who_came_first_when_the_buckets_change() {
    let asks = [0, 1, 3, 2].map(|shard| (0, Ask(shard)));
    let first = Report {
        resets_at: moment(24 * HOUR),
        ..plenty(2)
    };
    let says = [(
        1000,
        Discord(Report {
            buckets: 1,
            ..first
        }),
    )];
    let story = [&asks[..], &says[..]].concat();
    let mut config = config(Duration::from_secs(60));
    // So that we, too, hear of it before the next turns.
    config.rules.refresh = config.rules.interval;
    config.spacing += Duration::from_secs(1);
    assert_eq!(
        shards(&ours(config, first, &story, 60 * SECOND)),
        [0, 1, 3, 2]
    );
    assert_eq!(shards(&peer(first, &story, 60 * SECOND)), [0, 1, 2, 3]);
}

#[test]
fn no_bucket_at_all_is_no_limit_to_the_peer_and_ends_it_when_somebody_waits() {
    let asks = [(0, Ask(0)), (0, Ask(1)), (0, Ask(2))];
    let first = plenty(0);
    assert_eq!(times(&peer(first, &asks, 60 * SECOND)), [0, 0, 0]);
    assert_eq!(ours(forgetful(), first, &asks, 60 * SECOND), []);

    let story = [&asks[..], &[(1000, Discord(plenty(0)))]].concat();
    assert_eq!(times(&peer(plenty(1), &story, 60 * SECOND)), [0]);
    let mut config = forgetful();
    config.rules.refresh = config.rules.interval;
    assert_eq!(
        times(&ours(config, plenty(1), &story, 60 * SECOND)),
        [0, 5000, 10_000]
    );
}

#[test]
fn the_peer_refills_by_its_own_clock() {
    let first = Report {
        buckets: 1,
        remaining: 1,
        total: 1000,
        resets_at: moment(60 * SECOND),
    };
    // The window ends, and Discord, for whatever reason, opens no new one.
    let used_up = Report {
        remaining: 0,
        resets_at: moment(0),
        ..first
    };
    let asks = [(0, Ask(0)), (0, Ask(1))];
    assert_eq!(times(&peer(first, &asks, HOUR)), [0, 60 * SECOND]);
    let story = [&asks[..], &[(SECOND, Discord(used_up))]].concat();
    assert_eq!(times(&ours(forgetful(), first, &story, HOUR)), [0]);
}

#[test]
fn the_peer_does_not_hear_an_update_while_it_is_used_up() {
    let first = Report {
        buckets: 1,
        remaining: 0,
        total: 1000,
        resets_at: moment(HOUR),
    };
    let story = [
        (0, Ask(0)),
        (
            10 * SECOND,
            Discord(Report {
                remaining: 1000,
                ..first
            }),
        ),
    ];
    assert_eq!(times(&peer(first, &story, 2 * HOUR)), [HOUR]);
    // At the refresh, and not when the window would have ended.
    assert_eq!(
        times(&ours(forgetful(), first, &story, 2 * HOUR)),
        [300 * SECOND]
    );
}

#[test]
fn the_peer_takes_a_whole_window_for_one_of_24_hours() {
    let first = Report {
        buckets: 1,
        remaining: 2,
        total: 2,
        resets_at: moment(60 * SECOND),
    };
    let asks = [(0, Ask(0)), (0, Ask(1)), (0, Ask(2))];
    let next = (
        60 * SECOND,
        Discord(Report {
            resets_at: moment(2 * HOUR),
            ..first
        }),
    );
    let end = 25 * HOUR;
    assert_eq!(times(&peer(first, &asks, end)), [0, 5 * SECOND, 24 * HOUR]);
    // It has counted both by then; we ask, as others may have used some.
    let used_up = Report {
        remaining: 0,
        ..first
    };
    let story = [&asks[..], &[(6 * SECOND, Discord(used_up)), next]].concat();
    assert_eq!(
        times(&ours(forgetful(), first, &story, end)),
        [0, 5 * SECOND, 60 * SECOND]
    );
}

#[test]
fn the_peer_forgets_what_discord_has_not_counted_yet() {
    let first = Report {
        buckets: 1,
        remaining: 2,
        total: 1000,
        resets_at: moment(HOUR),
    };
    // Both are used by 5; what Discord says at 6 does not count them yet.
    let asks = [0, 1, 2].map(|shard| (0, Ask(shard)));
    let story = [&asks[..], &[(6 * SECOND, Discord(first))]].concat();
    assert_eq!(
        times(&peer(first, &story, 600 * SECOND)),
        [0, 5 * SECOND, 10 * SECOND]
    );
    let mut config = forgetful();
    config.rules.refresh = Duration::from_secs(6);
    // It has counted them when it must have.
    let counted = Report {
        remaining: 0,
        ..first
    };
    let story = [&story[..], &[(9 * SECOND, Discord(counted))]].concat();
    let end = 11 * SECOND;
    assert_eq!(times(&ours(config, first, &story, end)), [0, 5 * SECOND]);
}

#[test]
fn the_peer_knows_no_predecessor() {
    let config = Config {
        start_guard: true,
        ..forgetful()
    };
    let story = [(0, Ask(0))];
    assert_eq!(times(&peer(plenty(1), &story, 60 * SECOND)), [0]);
    assert_eq!(times(&ours(config, plenty(1), &story, 60 * SECOND)), [5000]);
}
