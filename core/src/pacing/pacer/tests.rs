use proptest::prelude::*;

use super::breaker::CrashLooping;
use super::*;
use crate::protocol::request::Report;

const D: Duration = Duration::from_secs(5);

fn at(seconds: f64) -> Moment {
    Moment::ZERO + Duration::from_secs_f64(seconds)
}

fn pacer(buckets: u32) -> Pacer {
    limited(buckets, ShardLimit::NONE)
}

fn limited(buckets: u32, limit: ShardLimit) -> Pacer {
    let mut pacer = Pacer::new(D, Duration::from_secs(60), limit, &ReceivedHandover::NONE);
    assert!(pacer.set_concurrency(buckets));
    pacer
}

/// Returns a pacer that grants each shard twice within 100 s.
fn twice(buckets: u32) -> Pacer {
    let window = Duration::from_secs(100);
    limited(buckets, ShardLimit { burst: 2, window })
}

fn id(n: u64) -> WaiterId {
    WaiterId(n)
}

/// Grants and writes all that is due at `now`. Returns the shards.
fn grants(pacer: &mut Pacer, now: Moment) -> Vec<u32> {
    pacer.advance(now);
    let mut shards = Vec::new();
    while let Some(grant) = pacer.grant(now) {
        pacer.written(grant.waiter, now);
        shards.push(grant.shard);
    }
    shards
}

#[test]
fn a_bucket_is_blocked_while_a_grant_is_being_written() {
    let mut pacer = pacer(1);
    pacer.offer(id(1), 0, at(0.0));
    pacer.offer(id(2), 0, at(0.0));
    assert_eq!(pacer.grant(at(0.0)).unwrap().waiter, id(1));
    assert_eq!(pacer.grant(at(100.0)), None);
    assert_eq!(pacer.wake_at(), None);
    pacer.written(id(1), at(101.0));
    assert_eq!(pacer.wake_at(), Some(at(106.0)));
    assert_eq!(pacer.grant(at(105.999)), None);
    let grant = pacer.grant(at(106.0)).unwrap();
    assert_eq!((grant.waiter, grant.allowed), (id(2), at(106.0)));
}

#[test]
fn a_report_about_an_unknown_waiter_changes_nothing() {
    let mut pacer = pacer(1);
    pacer.offer(id(1), 0, at(0.0));
    pacer.written(id(9), at(0.0));
    pacer.unwritten(id(9), at(0.0));
    assert!(!pacer.cancel(id(9), at(0.0)));
    assert_eq!(grants(&mut pacer, at(0.0)), [0]);
    assert!(!pacer.cancel(id(1), at(0.0)));
}

#[test]
fn a_grant_in_flight_blocks_all_buckets_after_their_number_changes() {
    let mut pacer = pacer(2);
    pacer.offer(id(1), 0, at(0.0));
    pacer.offer(id(2), 1, at(0.0));
    pacer.offer(id(3), 2, at(0.0));
    assert_eq!(pacer.grant(at(0.0)).unwrap().shard, 0);
    pacer.set_concurrency(4);
    assert_eq!((pacer.grant(at(0.1)), pacer.wake_at()), (None, None));
    pacer.written(id(1), at(0.2));
    assert_eq!(pacer.wake_at(), Some(at(5.2)));
    assert_eq!(grants(&mut pacer, at(5.2)), [1, 2]);

    pacer.offer(id(4), 0, at(6.0));
    pacer.offer(id(5), 2, at(6.0));
    pacer.grant(at(6.0)).unwrap();
    pacer.set_concurrency(1);
    pacer.unwritten(id(4), at(6.1));
    assert_eq!(pacer.wake_at(), Some(at(10.2)));
    assert_eq!(grants(&mut pacer, at(10.2)), [2]);
}

#[test]
fn the_earliest_waiter_of_all_buckets_is_picked_first() {
    let mut pacer = pacer(4);
    for (n, shard) in [(1, 3), (2, 1), (3, 0)] {
        pacer.offer(id(n), shard, at(n as f64));
    }
    assert_eq!(grants(&mut pacer, at(10.0)), [3, 1, 0]);
}

#[test]
fn the_older_of_a_reservation_and_an_arrival_elsewhere_counts() {
    let mut pacer = pacer(1);
    let hour = 3600.0;
    pacer.offer(id(0), 0, at(hour));
    assert_eq!(grants(&mut pacer, at(hour)), [0]);
    // Its reservation is a second old, its arrival elsewhere an hour.
    pacer.offer(id(1), 7, at(hour));
    pacer.cancel(id(1), at(hour));
    pacer.offer_from(id(2), 9.into(), at(hour - 99.0), at(hour + 1.0));
    assert!(pacer.offer_from(id(3), 7.into(), at(1.0), at(hour + 1.0)));
    // A reservation that is older than the arrival.
    pacer.offer_from(id(4), 8.into(), at(0.0), at(hour + 1.0));
    pacer.cancel(id(4), at(hour + 1.0));
    assert!(pacer.offer_from(id(5), 8.into(), at(hour), at(hour + 1.0)));
    let order: Vec<_> = (1..=3)
        .flat_map(|slot| grants(&mut pacer, at(hour + 5.0 * f64::from(slot))))
        .collect();
    assert_eq!(order, [8, 7, 9]);
}

#[test]
fn an_impossible_number_of_buckets_is_refused_and_nothing_changes() {
    let mut pacer = pacer(3);
    assert!(!pacer.set_concurrency(0));
    assert!(!pacer.set_concurrency(MAX_BUCKETS + 1));
    assert_eq!(pacer.concurrency(), 3);
}

#[test]
fn lanes_list_the_waiters_in_order() {
    let mut pacer = pacer(2);
    for (n, shard) in [(1, 4), (2, 2), (3, 1)] {
        pacer.offer(id(n), shard, at(0.0));
    }
    let lanes = pacer.lanes(usize::MAX);
    let lanes: Vec<_> = lanes.map(|l| (l.bucket, l.waiting, l.shards)).collect();
    assert_eq!(lanes, [(0, 2, vec![4, 2]), (1, 1, vec![1])]);
    assert!(pacer.lanes(0).all(|lane| lane.shards.is_empty()));
}

#[test]
fn a_position_has_the_waiters_ahead_and_the_time_of_the_grant() {
    let mut pacer = pacer(2);
    for (n, shard) in [(1, 0), (2, 2), (3, 1), (4, 4)] {
        pacer.offer(id(n), shard, at(1.0));
    }
    let position = |pacer: &Pacer, n, now| {
        let position = pacer.position(id(n), at(now)).unwrap();
        (position.ahead, position.granted_at)
    };
    assert_eq!(position(&pacer, 4, 2.0), (2, at(12.0)));
    assert_eq!(position(&pacer, 3, 2.0), (0, at(2.0)));
    pacer.grant(at(3.0)).unwrap();
    // The grant is in flight.
    assert_eq!(position(&pacer, 4, 3.0), (1, at(13.0)));
    pacer.written(id(1), at(3.5));
    assert_eq!(position(&pacer, 4, 4.0), (1, at(13.5)));
    assert_eq!(pacer.position(id(1), at(4.0)), None);
}

/// A pacer that has granted shard 7 twice, at 0 s and at 5 s, with two more of its waiters.
fn crash_looping(buckets: u32) -> Pacer {
    let mut pacer = twice(buckets);
    for n in 1..=4 {
        pacer.offer(id(n), 7, at(0.0));
    }
    assert_eq!(grants(&mut pacer, at(0.0)), [7]);
    assert_eq!(grants(&mut pacer, at(5.0)), [7]);
    pacer
}

/// The shards that are held, each with the time of its release and the number of its waiters.
fn held(pacer: &Pacer) -> Vec<(u32, Moment, usize)> {
    let held = pacer.held.iter();
    held.map(|(shard, until, waiters)| (shard, until, waiters.len()))
        .collect()
}

#[test]
fn the_waiters_of_a_crash_looping_shard_are_held_and_others_pass() {
    let mut pacer = crash_looping(1);
    assert_eq!(held(&pacer), [(7, at(100.0), 2)]);
    // Nothing is due.
    assert_eq!(pacer.wake_at(), None);
    assert_eq!(pacer.advance_at(), Some(at(100.0)));
    pacer.offer(id(5), 8, at(6.0));
    pacer.offer(id(6), 7, at(6.0));
    assert_eq!(pacer.wake_at(), Some(at(10.0)));
    assert_eq!(grants(&mut pacer, at(10.0)), [8]);
    assert_eq!(held(&pacer), [(7, at(100.0), 3)]);
    assert_eq!(pacer.lanes(9).next().unwrap().waiting, 0);
}

#[test]
fn a_held_waiter_returns_to_its_place_when_the_oldest_grant_leaves_the_window() {
    let mut pacer = crash_looping(1);
    pacer.offer(id(5), 8, at(99.0));
    pacer.grant(at(99.0)).unwrap();
    pacer.written(id(5), at(99.0));
    pacer.offer(id(6), 8, at(99.5));
    assert_eq!(grants(&mut pacer, at(99.999)), [0; 0]);
    // At 104 s the bucket is free, and shard 7 has waited longest.
    pacer.advance(at(104.0));
    assert!(held(&pacer).is_empty());
    let grant = pacer.grant(at(104.0)).unwrap();
    assert_eq!((grant.waiter, grant.allowed), (id(3), at(104.0)));
    pacer.written(id(3), at(104.0));
    // The next one waits until the grant of 5 s leaves the window.
    assert_eq!(held(&pacer), [(7, at(105.0), 1)]);
    assert_eq!(grants(&mut pacer, at(109.0)), [7]);
    assert_eq!(grants(&mut pacer, at(114.0)), [8]);
}

#[test]
fn a_shard_counts_as_crash_looping_until_it_was_not_held_for_a_while() {
    let mut pacer = crash_looping(1);
    let held = |released_at, waiting| CrashLooping {
        shard: 7,
        released_at,
        waiting,
    };
    assert!(pacer.crash_looping().eq([held(at(100.0), 2)]));
    pacer.advance(at(100.0));
    assert!(pacer.crash_looping().eq([held(at(100.0), 0)]));
    assert_eq!(grants(&mut pacer, at(100.0)), [7]);
    assert!(pacer.crash_looping().eq([held(at(105.0), 1)]));
    assert_eq!(grants(&mut pacer, at(105.0)), [7]);
    // It is granted once in 50 s on average.
    assert_eq!(pacer.advance_at(), Some(at(155.0)));
    pacer.advance(at(154.0));
    assert!(pacer.is_crash_looping(7));
    pacer.advance(at(155.0));
    assert_eq!((pacer.crash_looping_count(), pacer.advance_at()), (0, None));
}

#[test]
fn a_grant_after_a_release_is_late_only_from_the_release() {
    let mut pacer = crash_looping(1);
    pacer.advance(at(100.5));
    assert_eq!(pacer.grant(at(100.5)).unwrap().allowed, at(100.0));
}

#[test]
fn a_held_waiter_has_no_position_and_its_place_is_reserved_when_it_leaves() {
    let mut pacer = crash_looping(1);
    assert_eq!(pacer.position(id(3), at(6.0)), None);
    assert_eq!(pacer.released_at(id(3)), Some(at(100.0)));
    pacer.offer(id(5), 8, at(6.0));
    assert!(pacer.position(id(5), at(6.0)).is_some());
    assert_eq!(pacer.released_at(id(5)), None);
    for n in 3..=4 {
        assert!(pacer.cancel(id(n), at(90.0)));
        assert!(!pacer.cancel(id(n), at(90.0)));
    }
    // It stays held without a waiter.
    assert_eq!(held(&pacer), [(7, at(100.0), 0)]);
    assert!(pacer.offer(id(6), 7, at(101.0)));
    assert!(held(&pacer).is_empty());
    assert_eq!(pacer.position(id(6), at(101.0)).unwrap().ahead, 0);
}

#[test]
fn a_held_shard_stays_held_when_the_number_of_buckets_changes() {
    let mut pacer = crash_looping(1);
    pacer.offer(id(5), 8, at(6.0));
    assert!(pacer.set_concurrency(4));
    assert_eq!(held(&pacer), [(7, at(100.0), 2)]);
    assert_eq!(grants(&mut pacer, at(10.0)), [8]);
    assert_eq!(grants(&mut pacer, at(100.0)), [7]);
}

#[test]
fn a_grant_that_was_not_written_does_not_count() {
    let mut pacer = twice(1);
    for n in 0..5 {
        pacer.offer(id(n), 7, at(0.0));
        pacer.grant(at(0.0)).unwrap();
        pacer.unwritten(id(n), at(0.0));
    }
    assert!(held(&pacer).is_empty());
}

#[test]
fn requests_without_a_valid_shard_are_not_held() {
    let unnamed = Shard {
        id: 7,
        is_valid: false,
    };
    let mut pacer = twice(1);
    for n in 0..5 {
        pacer.offer_from(id(n), unnamed, at(0.0), at(0.0));
    }
    for n in 0..4 {
        assert_eq!(grants(&mut pacer, at(5.0 * f64::from(n))), [7]);
    }
    assert!(pacer.shard_states(9, at(20.0)).is_empty());
    // Nor while the shard that they are taken for is held.
    let mut pacer = crash_looping(1);
    pacer.offer_from(id(9), unnamed, at(6.0), at(6.0));
    assert_eq!(held(&pacer), [(7, at(100.0), 2)]);
    pacer.set_concurrency(2);
    assert_eq!(grants(&mut pacer, at(10.0)), [7]);
    assert_eq!(held(&pacer), [(7, at(100.0), 2)]);
}

#[test]
fn an_invalid_session_after_a_grant_blocks_the_bucket_for_one_spacing() {
    let mut pacer = pacer(2);
    for (n, shard) in [(1, 0), (2, 2), (3, 1), (4, 3)] {
        pacer.offer(id(n), shard, at(0.0));
    }
    assert_eq!(grants(&mut pacer, at(0.0)), [0, 1]);
    pacer.report(0, Report::InvalidSession, at(3.0));
    // Only the first report after a grant counts.
    pacer.report(0, Report::InvalidSession, at(7.0));
    pacer.report(1, Report::Ready, at(3.0));
    pacer.report(1, Report::InvalidSession, at(3.0));
    assert_eq!(grants(&mut pacer, at(5.0)), [3]);
    assert_eq!(pacer.wake_at(), Some(at(8.0)));
    assert_eq!(grants(&mut pacer, at(8.0)), [2]);
    // It ends no wait that is longer.
    pacer.report(2, Report::InvalidSession, at(8.0));
    assert_eq!(pacer.waits(at(8.0)), [D, Duration::from_secs(2)]);
}

#[test]
fn an_invalid_session_blocks_a_bucket_whose_grant_is_in_flight() {
    let mut pacer = pacer(1);
    for (n, shard) in [(1, 0), (2, 1), (3, 2)] {
        pacer.offer(id(n), shard, at(0.0));
    }
    assert_eq!(grants(&mut pacer, at(0.0)), [0]);
    pacer.grant(at(5.0)).unwrap();
    pacer.report(0, Report::InvalidSession, at(6.0));
    pacer.unwritten(id(2), at(7.0));
    assert_eq!(pacer.wake_at(), Some(at(11.0)));
}

/// What happens to a pacer: after this many milliseconds a shard asks, or reports.
type Step = (u64, u32, Option<Report>);

/// Returns the times of the grants of each bucket.
fn times(steps: &[Step], with_reports: bool) -> Vec<Vec<Moment>> {
    let mut pacer = pacer(3);
    let mut times = vec![Vec::new(); 3];
    let (mut now, mut asked) = (Moment::ZERO, 0);
    // An hour later, all of them have been granted.
    let last = (3_600_000, 0, Some(Report::Closed));
    for (gap, shard, report) in steps.iter().copied().chain([last]) {
        let end = now + Duration::from_millis(gap);
        while let Some(at) = pacer
            .wake_at()
            .map(|at| at.max(now))
            .filter(|at| *at <= end)
        {
            now = at;
            for shard in grants(&mut pacer, now) {
                times[shard as usize % 3].push(now);
            }
        }
        now = end;
        match report {
            None => {
                asked += 1;
                pacer.offer(id(asked), shard, now);
            }
            Some(report) if with_reports => pacer.report(shard, report, now),
            Some(_) => {}
        }
    }
    times
}

proptest! {
    #[test]
    fn a_report_makes_no_grant_earlier(
        steps in prop::collection::vec(
            (0..4000_u64, 0..9_u32, prop::option::of(prop::sample::select(Report::ALL.to_vec()))),
            0..60,
        ),
    ) {
        let (with, without) = (times(&steps, true), times(&steps, false));
        for (with, without) in with.iter().zip(&without) {
            prop_assert_eq!(with.len(), without.len());
            prop_assert!(with.iter().zip(without).all(|(with, without)| with >= without));
        }
    }
}
