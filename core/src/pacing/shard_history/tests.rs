use proptest::prelude::*;

use super::*;

const MINUTE: u64 = 60;

fn at(seconds: u64) -> Moment {
    Moment::ZERO + Duration::from_secs(seconds)
}

fn history(burst: usize) -> ShardHistory {
    ShardHistory::new(ShardLimit {
        burst,
        window: Duration::from_secs(100),
    })
}

/// Returns the ids of at most `max` shards.
fn ids(history: &ShardHistory, max: usize) -> Vec<u32> {
    let states = history.states(max, at(0));
    states.into_iter().map(|state| state.shard).collect()
}

#[test]
fn a_shard_is_limited_until_the_oldest_of_its_last_grants_leaves_the_window() {
    let mut history = history(2);
    history.granted(7, at(0));
    assert_eq!(history.limited_until(7, at(0)), None);
    history.granted(7, at(30));
    assert_eq!(history.limited_until(7, at(30)), Some(at(100)));
    assert_eq!(history.limited_until(7, at(100)), None);
    assert_eq!(history.limited_until(8, at(30)), None);
    history.granted(7, at(100));
    assert_eq!(history.limited_until(7, at(100)), Some(at(130)));
}

#[test]
fn without_a_limit_only_the_last_grant_is_remembered() {
    let mut history = ShardHistory::new(ShardLimit::NONE);
    for second in 0..50 {
        history.granted(7, at(second));
        assert_eq!(history.limited_until(7, at(second)), None);
    }
    assert_eq!((history.grants, history.shards[&7].grants.len()), (1, 1));
}

#[test]
fn an_invalid_session_refuses_an_identify_only_after_a_grant_without_a_report() {
    let mut history = history(9);
    let mut refuses = |shard, report| history.reported(shard, report, at(5));
    assert!(!refuses(7, Report::InvalidSession), "never granted");
    history.granted(7, at(4));
    let mut refuses = |shard, report| history.reported(shard, report, at(5));
    assert!(refuses(7, Report::InvalidSession));
    assert!(!refuses(7, Report::InvalidSession), "reported twice");
    for report in [Report::Ready, Report::Resumed, Report::Closed] {
        history.granted(7, at(6));
        let mut refuses = |shard, report| history.reported(shard, report, at(7));
        assert!(!refuses(7, report));
        // It refuses a resume.
        assert!(!refuses(7, Report::InvalidSession));
    }
    for (seconds, expected) in [(59, true), (60, false)] {
        history.granted(7, at(100));
        let refused = history.reported(7, Report::InvalidSession, at(100 + seconds));
        assert_eq!(refused, expected, "{seconds} s after the grant");
    }
}

#[test]
fn a_shard_is_degraded_while_more_than_3_invalid_sessions_count() {
    let mut history = history(9);
    for minute in 0..4 {
        assert_eq!(history.degraded().count(), 0);
        history.granted(7, at(minute * MINUTE));
        assert!(history.reported(7, Report::InvalidSession, at(minute * MINUTE)));
    }
    assert!(history.degraded().eq([7]));
    assert_eq!(history.states(1, at(3 * MINUTE))[0].invalid_sessions, 4);
    assert_eq!(history.advance_at(), Some(at(10 * MINUTE)));
    history.advance(at(10 * MINUTE - 1));
    assert!(history.degraded().eq([7]));
    history.advance(at(10 * MINUTE));
    assert_eq!(
        (history.degraded().count(), history.advance_at()),
        (0, None)
    );
    assert_eq!(history.states(1, at(10 * MINUTE))[0].invalid_sessions, 3);
    // A fifth one, before the second expires.
    history.granted(7, at(10 * MINUTE));
    history.reported(7, Report::InvalidSession, at(10 * MINUTE));
    assert_eq!(history.advance_at(), Some(at(11 * MINUTE)));
}

#[test]
fn a_shard_is_ready_until_its_next_grant_or_another_report() {
    let mut history = history(9);
    let is_ready = |history: &ShardHistory| !history.not_ready.contains(&7);
    history.granted(7, at(1));
    assert!(!is_ready(&history));
    for report in Report::ALL {
        history.reported(7, report, at(2));
        let expected = matches!(report, Report::Ready | Report::Resumed);
        assert_eq!(is_ready(&history), expected, "{report:?}");
    }
    history.reported(7, Report::Ready, at(3));
    history.granted(7, at(3));
    assert!(!is_ready(&history));
    let state = history.states(1, at(9))[0];
    assert_eq!(state.last_grant, Some(at(3)));
    assert_eq!(state.last_report, Some((Report::Ready, at(3))));
}

#[test]
fn shards_are_ascending_and_those_that_are_ready_are_left_out_first() {
    let mut history = history(9);
    for shard in [9, 2, 5, 7, 1] {
        history.granted(shard, at(0));
    }
    for shard in [1, 2, 9] {
        history.reported(shard, Report::Ready, at(1));
    }
    assert_eq!(ids(&history, 9), [1, 2, 5, 7, 9]);
    assert_eq!(ids(&history, 3), [1, 5, 7]);
    assert_eq!(ids(&history, 1), [5]);
    assert_eq!(ids(&history, 0), [0; 0]);
}

#[test]
fn the_shard_with_the_oldest_event_is_forgotten_but_none_at_its_limit() {
    let mut history = history(1);
    history.granted(0, at(0));
    for shard in 1..MAX_SHARDS as u32 {
        history.reported(shard, Report::Ready, at(1));
    }
    history.reported(1, Report::Ready, at(2));
    let newest = MAX_SHARDS as u32;
    history.reported(newest, Report::Ready, at(3));
    assert_eq!(history.shards.len(), MAX_SHARDS);
    // Shard 0 has reached its limit, and shard 1 has a later event.
    assert_eq!(ids(&history, usize::MAX)[..3], [0, 1, 3]);
    history.reported(newest + 1, Report::Ready, at(100));
    assert_eq!(ids(&history, usize::MAX)[..3], [0, 1, 4]);
    assert_eq!(history.forgettable.len(), MAX_SHARDS);
}

#[test]
fn an_event_is_dropped_if_all_shards_have_reached_their_limit() {
    let mut history = history(1);
    for shard in 0..MAX_SHARDS as u32 {
        history.granted(shard, at(1));
    }
    let newest = MAX_SHARDS as u32;
    assert!(!history.reported(newest, Report::Ready, at(2)));
    history.granted(newest, at(2));
    assert_eq!(history.shards.len(), MAX_SHARDS);
    assert!(!history.shards.contains_key(&newest));
    // A shard that is known is still updated.
    assert!(history.reported(3, Report::InvalidSession, at(2)));
    assert_eq!(history.limited_until(3, at(2)), Some(at(101)));
    history.granted(newest, at(101));
    assert_eq!(history.limited_until(newest, at(101)), Some(at(201)));
}

#[test]
fn reports_do_not_replace_shards_that_were_granted() {
    let mut history = history(9);
    for shard in 0..MAX_SHARDS as u32 {
        history.granted(shard, at(1));
    }
    let newest = MAX_SHARDS as u32;
    history.reported(newest, Report::Ready, at(2));
    assert!(!history.shards.contains_key(&newest));
    history.granted(newest, at(3));
    assert_eq!(ids(&history, usize::MAX)[..2], [1, 2]);
}

#[test]
fn a_shard_keeps_its_limit_if_its_next_event_is_dropped() {
    let mut history = history(MAX_GRANTS / 2);
    for shard in [1, 2] {
        for _ in 0..MAX_GRANTS / 2 {
            history.granted(shard, at(1));
        }
    }
    history.granted(1, at(2));
    assert_eq!(history.limited_until(1, at(2)), Some(at(101)));
}

#[test]
fn the_grants_of_all_shards_are_bounded() {
    let mut history = history(MAX_GRANTS);
    for shard in [1, 2] {
        for _ in 0..MAX_GRANTS / 2 {
            history.granted(shard, at(shard.into()));
        }
    }
    assert_eq!((ids(&history, 9), history.grants), (vec![1, 2], MAX_GRANTS));
    history.granted(3, at(3));
    assert_eq!(ids(&history, 9), [2, 3]);
    assert_eq!(history.grants, MAX_GRANTS / 2 + 1);
}

proptest! {
    /// The model keeps every event.
    #[test]
    fn the_limit_agrees_with_a_list_of_all_grants(
        burst in 0..4_usize,
        grants in prop::collection::vec((0..60_u64, 0..3_u32), 0..60),
    ) {
        let mut history = history(burst);
        let (mut now, mut all) = (0, Vec::new());
        for (gap, shard) in grants {
            now += gap;
            history.granted(shard, at(now));
            all.push((shard, now));
            for shard in 0..3 {
                let counts = |(of, at): &&(u32, u64)| *of == shard && at + 100 > now;
                let recent: Vec<_> = all.iter().filter(counts).collect();
                let first = recent.len().checked_sub(burst.max(1));
                let until = first.map(|first| at(recent[first].1 + 100));
                let expected = until.filter(|_| burst > 0);
                prop_assert_eq!(history.limited_until(shard, at(now)), expected);
            }
        }
    }
}
