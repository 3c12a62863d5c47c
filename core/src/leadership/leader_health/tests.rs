use proptest::prelude::*;

use super::*;

fn at(seconds: u64) -> Moment {
    // No moment of the program's clock is near zero.
    Moment::ZERO + Duration::from_secs(1000 + seconds)
}

fn leader(name: &str) -> Leader {
    Leader {
        holder: format!("{name}_0badcafe-1"),
        address: ([10, 0, 0, 1], 9091).into(),
    }
}

fn renewal(name: &str, seconds: u64) -> Renewal {
    Renewal {
        uid: "u".to_owned(),
        version: "7".to_owned(),
        holder: leader(name).holder,
        at: at(seconds),
        duration: None,
        report: None,
    }
}

/// Follows a since second 0.
fn following() -> LeaderHealth {
    let mut health = LeaderHealth::new(Config::new(Duration::from_secs(5)));
    health.follow(Some(&leader("a")), at(0));
    health
}

/// Plays these seconds: the Lease of a is renewed every five seconds, and each probe ends after a
/// second, with an answer if `answers`. Returns the number of probes.
fn play(health: &mut LeaderHealth, seconds: std::ops::Range<u64>, answers: bool) -> u32 {
    let mut probes = 0;
    for second in seconds {
        if second % 5 == 0 {
            health.renewed(&renewal("a", second));
        }
        let due = health.probe().is_some_and(|(_, due)| due <= at(second));
        if due {
            probes += 1;
            match answers {
                true => health.answered(at(second + 1)),
                false => health.failed(at(second), at(second + 1)),
            }
        }
    }
    probes
}

fn is_unreachable(health: &LeaderHealth, second: u64) -> bool {
    matches!(health.health(at(second)), Health::Unreachable { .. })
}

#[test]
fn a_living_leader_that_does_not_answer_makes_this_pod_unready_after_30_s() {
    let mut health = following();
    play(&mut health, 0..30, false);
    assert_eq!(health.health(at(30)), Health::Reachable);
    play(&mut health, 30..32, false);
    let expected = Health::Unreachable {
        leader: leader("a"),
        since: at(0),
        lives: true,
    };
    assert_eq!(health.health(at(32)), expected);
    assert!(!health.health(at(32)).is_ready());
    let report = expected.report(at(32), Timestamp::from_second(100).unwrap());
    assert_eq!(report.unwrap().since, Timestamp::from_second(68).unwrap());
    // Its first answer ends it.
    health.answered(at(40));
    assert_eq!(health.health(at(40)), Health::Reachable);
    assert_eq!(health.health(at(40)).report(at(40), Timestamp::now()), None);
}

#[test]
fn a_leader_that_answers_is_probed_once_in_ten_seconds_and_not_while_requests_are_answered() {
    let mut health = following();
    assert!(play(&mut health, 0..120, true) <= 12);
    let mut busy = following();
    for second in 0..120 {
        busy.answered(at(second));
        assert_eq!(play(&mut busy, second..second + 1, false), 0);
    }
}

#[test]
fn while_no_pod_renews_the_lease_a_pod_stays_ready() {
    let mut health = following();
    play(&mut health, 0..40, false);
    assert!(!health.health(at(40)).is_ready());
    // The last renewal was seen in second 35.
    assert_eq!(health.expires_at(at(40)), Some(at(45)));
    assert!(!health.health(at(44)).is_ready());
    assert!(health.health(at(45)).is_ready());
    assert!(is_unreachable(&health, 45));
    assert_eq!(health.expires_at(at(45)), None);
    // When the leader renews again, it is unreachable immediately.
    health.renewed(&renewal("a", 50));
    assert!(!health.health(at(50)).is_ready());
    // A renewal by another pod is not one of this leader.
    health.renewed(&renewal("b", 70));
    assert!(health.health(at(70)).is_ready());
}

#[test]
fn a_leader_counts_as_alive_for_its_duration_or_two_renewals_if_longer() {
    for (named, until) in [(0, 10), (3, 10), (15, 15), (30, 30), (u64::MAX, 30)] {
        let mut health = following();
        play(&mut health, 0..40, false);
        let mut renewal = renewal("a", 40);
        renewal.duration = Some(Duration::from_secs(named));
        health.renewed(&renewal);
        assert_eq!(health.expires_at(at(40)), Some(at(40 + until)));
        assert!(!health.health(at(39 + until)).is_ready(), "{named}");
        assert!(health.health(at(40 + until)).is_ready(), "{named}");
    }
}

#[test]
fn with_another_leader_or_none_the_probes_start_over() {
    for next in [Some(leader("b")), None] {
        let mut health = following();
        play(&mut health, 0..40, false);
        health.follow(next.as_ref(), at(40));
        let expected = next
            .as_ref()
            .map_or(Health::NoLeader, |_| Health::Reachable);
        assert_eq!(health.health(at(40)), expected);
        play(&mut health, 40..69, false);
        assert!(!is_unreachable(&health, 69));
    }
    let mut same = following();
    play(&mut same, 0..40, false);
    same.follow(Some(&leader("a")), at(40));
    assert!(is_unreachable(&same, 40));
}

#[test]
fn a_process_that_was_suspended_probes_three_times() {
    let mut health = following();
    play(&mut health, 0..10, true);
    // Suspended from second 10 to 1000; its first probes fail.
    play(&mut health, 1000..1010, false);
    assert!(!is_unreachable(&health, 1010));
    play(&mut health, 1010..1012, false);
    assert!(is_unreachable(&health, 1012));
}

#[test]
fn an_answer_that_came_while_a_probe_failed_counts() {
    let mut health = following();
    play(&mut health, 0..29, false);
    health.answered(at(31));
    health.failed(at(30), at(33));
    assert!(!is_unreachable(&health, 33));
    // The answer is reported after the last probe has failed.
    let mut health = following();
    play(&mut health, 0..29, false);
    health.failed(at(30), at(33));
    assert!(is_unreachable(&health, 33));
    health.answered(at(31));
    assert!(!is_unreachable(&health, 33));
    // An older answer changes nothing.
    let mut health = following();
    play(&mut health, 0..40, false);
    health.answered(at(0));
    assert!(is_unreachable(&health, 40));
}

proptest! {
    /// In any order of events, a pod is unready only if the leader has renewed recently and has not
    /// answered for 30 s.
    #[test]
    fn a_pod_is_unready_only_for_a_leader_that_lives_and_is_silent(
        steps in prop::collection::vec((0..4_u8, 0..6_u64), 0..200),
    ) {
        let mut health = LeaderHealth::new(Config::new(Duration::from_secs(5)));
        let (mut now, mut answered, mut renewed) = (0, 0, None);
        for (step, seconds) in steps {
            now += seconds;
            match step {
                0 => {
                    let next = leader(if seconds % 2 == 0 { "a" } else { "b" });
                    if health.probe().is_none_or(|(leader, _)| *leader != next) {
                        answered = now;
                    }
                    health.follow(Some(&next), at(now));
                }
                1 => {
                    health.answered(at(now));
                    answered = now;
                }
                2 => {
                    health.renewed(&renewal("a", now));
                    renewed = Some(now);
                }
                _ => health.failed(at(now), at(now + 1)),
            }
            let unready = !health.health(at(now + 1)).is_ready();
            let silent = now + 1 - answered >= 30;
            let lives = renewed.is_some_and(|at| now + 1 - at < 10);
            prop_assert!(!unready || (silent && lives), "{now} {answered} {renewed:?}");
        }
    }
}

/// Returns what is due if the report on the Lease is `on_lease`.
fn due(
    reports: &Reports,
    health: &Health,
    on_lease: Option<String>,
    seconds: u64,
) -> Option<Option<Unreachable>> {
    let mut renewal = renewal("a", seconds);
    renewal.report = on_lease;
    reports.due(&renewal, health, at(seconds), Timestamp::UNIX_EPOCH)
}

#[test]
fn a_report_is_written_once_and_removed_once_and_only_after_a_renewal() {
    let mut health = following();
    let mut reports = Reports::default();
    assert_eq!(due(&reports, &health.health(at(0)), None, 0), None);
    play(&mut health, 0..40, false);
    let unreachable = health.health(at(40));
    let report = due(&reports, &unreachable, None, 40).unwrap().unwrap();
    assert_eq!(report.leader, leader("a").holder);
    assert_eq!(report.address, leader("a").address);
    // A write that failed is repeated after the next renewal, and not later.
    assert!(due(&reports, &unreachable, None, 45).is_some());
    for (leader, now) in [("a", 47), ("b", 45)] {
        let renewal = renewal(leader, 45);
        let due = reports.due(&renewal, &unreachable, at(now), Timestamp::UNIX_EPOCH);
        assert_eq!(due, None, "{leader}");
    }

    reports.written(&renewal("a", 0).holder, true);
    let on_lease = Some(report.write());
    assert_eq!(due(&reports, &unreachable, on_lease.clone(), 50), None);
    // If another client removes it, it is not written again.
    assert_eq!(due(&reports, &unreachable, None, 50), None);

    let removed = due(&reports, &Health::Reachable, on_lease.clone(), 55);
    assert_eq!(removed, Some(None));
    reports.written(&renewal("a", 0).holder, false);
    assert_eq!(due(&reports, &Health::Reachable, on_lease, 60), None);
    assert!(due(&reports, &unreachable, None, 90).is_some());
}

#[test]
fn a_report_of_the_process_before_in_this_pod_is_removed() {
    let reports = Reports::default();
    let mut left = Unreachable {
        leader: leader("a").holder,
        address: leader("a").address,
        since: Timestamp::UNIX_EPOCH,
    };
    let due = |left: &Unreachable| due(&reports, &Health::Reachable, Some(left.write()), 0);
    assert_eq!(due(&left), Some(None));
    // The leader removes what is about another one.
    left.leader = leader("b").holder;
    assert_eq!(due(&left), None);
}
