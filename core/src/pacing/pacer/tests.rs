use super::*;

const D: Duration = Duration::from_secs(5);

fn at(seconds: f64) -> Moment {
    Moment::ZERO + Duration::from_secs_f64(seconds)
}

fn pacer(buckets: u32) -> Pacer {
    let mut pacer = Pacer::new(D, Duration::from_secs(60), &ReceivedHandover::NONE);
    assert!(pacer.set_concurrency(buckets));
    pacer
}

fn id(n: u64) -> WaiterId {
    WaiterId(n)
}

/// Grants and writes all that is due at `now`. Returns the shards.
fn grants(pacer: &mut Pacer, now: Moment) -> Vec<u32> {
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
    pacer.offer_from(id(2), 9, at(hour - 99.0), at(hour + 1.0));
    assert!(pacer.offer_from(id(3), 7, at(1.0), at(hour + 1.0)));
    // A reservation that is older than the arrival.
    pacer.offer_from(id(4), 8, at(0.0), at(hour + 1.0));
    pacer.cancel(id(4), at(hour + 1.0));
    assert!(pacer.offer_from(id(5), 8, at(hour), at(hour + 1.0)));
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
