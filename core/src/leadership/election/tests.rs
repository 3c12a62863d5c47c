use super::*;
use crate::lease_state::Handover;

const D: Duration = Duration::from_secs(5);

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn at(after: f64) -> Moment {
    Moment::ZERO + seconds(after)
}

fn election() -> Election {
    Election::new(Config::new("me".to_owned(), seconds(15.0), D))
}

fn lease(version: &str, holder: &str, handover: Option<HandoverRecord>) -> Lease {
    Lease {
        uid: "uid".to_owned(),
        version: version.to_owned(),
        holder: (!holder.is_empty()).then(|| holder.to_owned()),
        duration: (!holder.is_empty()).then(|| seconds(15.0)),
        handover,
        address: Some(format!("address of {holder}")),
    }
}

fn released(waits: &[f64]) -> Option<HandoverRecord> {
    Some(HandoverRecord::Released(Handover {
        lease: "uid".to_owned(),
        waits: waits.iter().copied().map(seconds).collect(),
        spacing: D,
        uncounted: Some(2),
    }))
}

fn failed() -> Result<Lease, Failure> {
    Err(Failure::Other("no route".to_owned()))
}

/// Expects that it reads the Lease now, with this result.
fn reads(election: &mut Election, now: f64, answer: Result<Lease, Failure>) {
    assert_eq!(election.step(at(now)), Step::Read, "at {now}");
    election.answered(answer, at(now));
}

/// Expects that it writes this to that version now.
fn writes(election: &mut Election, now: f64, kind: Kind, version: &str) {
    let write = Write {
        uid: "uid".to_owned(),
        version: version.to_owned(),
        kind,
    };
    assert_eq!(election.step(at(now)), Step::Write(write), "at {now}");
}

fn waits(election: &mut Election, now: f64, until: f64) {
    assert_eq!(
        election.step(at(now)),
        Step::Wait(Some(at(until))),
        "at {now}"
    );
}

/// A leader since second 0, with version "2" of the Lease.
fn leader() -> Election {
    let mut election = election();
    let new = lease("1", "", Some(HandoverRecord::NeverLed));
    reads(&mut election, 0.0, Ok(new));
    writes(&mut election, 0.0, Kind::Take("me-1".to_owned()), "1");
    election.answered(Ok(lease("2", "me-1", None)), at(0.2));
    election
}

fn until(election: &Election) -> Option<Moment> {
    election.term().map(|term| term.until)
}

#[test]
fn the_first_leader_ever_has_nothing_to_wait_for() {
    let mut leader = leader();
    let term = leader.term().unwrap();
    assert_eq!((term.number, term.until), (1, at(13.5)));
    assert_eq!(term.handover.all_free_at, Moment::ZERO);
    assert_eq!(term.handover.uncounted, Some(0));
    assert_eq!(leader.leader(), None);
    waits(&mut leader, 0.2, 5.0);
}

#[test]
fn a_leader_whose_renewals_fail_may_grant_until_its_right_expires_and_after_a_renewal() {
    let mut leader = leader();
    writes(&mut leader, 5.0, Kind::Renew, "2");
    leader.answered(failed(), at(6.0));
    assert_eq!(until(&leader), Some(at(13.5)));
    waits(&mut leader, 6.0, 6.25);
    // The failed write may have been executed: a read shows it.
    reads(&mut leader, 60.0, Ok(lease("3", "me-1", None)));
    assert_eq!(until(&leader), Some(at(13.5)));
    writes(&mut leader, 60.0, Kind::Renew, "3");
    leader.answered(Ok(lease("4", "me-1", None)), at(60.1));
    assert_eq!(until(&leader), Some(at(73.5)));
    assert_eq!(leader.term().unwrap().number, 1);
}

#[test]
fn a_leader_that_finds_another_holder_or_another_lease_or_none_loses_its_term() {
    let other = lease("9", "other", None);
    let again = Lease {
        uid: "new".to_owned(),
        ..lease("9", "me-1", None)
    };
    for answer in [Ok(other), Ok(again), Err(Failure::Missing)] {
        let mut leader = leader();
        writes(&mut leader, 5.0, Kind::Renew, "2");
        leader.answered(Err(Failure::Conflict), at(5.0));
        assert!(leader.term().is_some());
        reads(&mut leader, 5.0, answer);
        assert_eq!(leader.term(), None);
    }
}

#[test]
fn a_held_lease_is_taken_when_it_was_seen_unchanged_for_its_duration() {
    let mut candidate = election();
    reads(&mut candidate, 0.0, Ok(lease("1", "other", None)));
    assert_eq!(candidate.leader(), Some(("other", "address of other")));
    waits(&mut candidate, 0.0, 15.0);
    candidate.noticed(lease("2", "other", None), at(10.0));
    candidate.noticed(lease("2", "other", None), at(12.0));
    waits(&mut candidate, 15.0, 25.0);
    writes(&mut candidate, 25.0, Kind::Take("me-1".to_owned()), "2");
    candidate.answered(Ok(lease("3", "me-1", None)), at(25.5));
    let term = candidate.term().unwrap();
    assert_eq!(term.until, at(38.5));
    assert_eq!(term.handover.all_free_at, at(25.0) + D + drift(D));
    assert_eq!(term.handover.uncounted, None);
}

#[test]
fn a_released_lease_is_taken_at_once_and_each_bucket_waits_the_rest() {
    let mut candidate = election();
    let lease_object = lease("1", "", released(&[0.0, 4.0]));
    reads(&mut candidate, 100.0, Ok(lease_object));
    writes(&mut candidate, 101.0, Kind::Take("me-1".to_owned()), "1");
    candidate.answered(Ok(lease("2", "me-1", None)), at(101.5));
    let handover = &candidate.term().unwrap().handover;
    let free_at = |wait| at(100.0 + wait) + drift(D);
    assert_eq!(handover.free_at, [free_at(0.0), free_at(4.0)]);
    assert_eq!(handover.all_free_at, at(101.0) + D + drift(D));
    assert_eq!(handover.uncounted, Some(2));
}

#[test]
fn a_lease_that_was_created_again_is_waited_out() {
    let longest = MAX_DURATION.as_secs_f64();
    let mut candidate = election();
    reads(&mut candidate, 0.0, Ok(lease("1", "other", None)));
    let again = Lease {
        uid: "new".to_owned(),
        ..lease("2", "", Some(HandoverRecord::NeverLed))
    };
    candidate.noticed(again, at(1.0));
    waits(&mut candidate, 1.0, 1.0 + longest);
}

#[test]
fn a_take_without_a_response_counts_from_when_it_was_first_sent() {
    let mut candidate = election();
    let lease_object = lease("1", "", released(&[3.0]));
    reads(&mut candidate, 0.0, Ok(lease_object.clone()));
    writes(&mut candidate, 0.0, Kind::Take("me-1".to_owned()), "1");
    candidate.answered(failed(), at(1.0));
    reads(&mut candidate, 2.0, Ok(lease_object));
    writes(&mut candidate, 2.0, Kind::Take("me-1".to_owned()), "1");
    candidate.answered(Err(Failure::Conflict), at(3.0));
    reads(&mut candidate, 4.0, Ok(lease("2", "me-1", None)));
    assert_eq!(until(&candidate), Some(at(13.5)));
    let handover = &candidate.term().unwrap().handover;
    assert_eq!(handover.free_at, [at(3.0) + drift(D)]);
}

#[test]
fn a_resigned_leader_releases_its_term_and_never_takes_the_lease_again() {
    let mut leader = leader();
    leader.resign();
    assert_eq!(leader.term(), None);
    assert!(leader.releasing().is_some());
    writes(&mut leader, 1.0, Kind::Release, "2");
    leader.answered(failed(), at(2.0));
    // It is unknown whether it was executed.
    reads(&mut leader, 3.0, Ok(lease("2", "me-1", None)));
    writes(&mut leader, 3.0, Kind::Release, "2");
    leader.answered(Ok(lease("3", "", released(&[]))), at(3.1));
    assert_eq!(leader.releasing(), None);
    assert_eq!(leader.step(at(100.0)), Step::Wait(None));
    leader.noticed(lease("4", "other", None), at(101.0));
    assert_eq!(leader.leader(), Some(("other", "address of other")));
    assert!(leader.has_left());
}

#[test]
fn a_candidate_that_resigns_while_it_takes_the_lease_releases_it() {
    let mut candidate = election();
    reads(&mut candidate, 0.0, Ok(lease("1", "", released(&[]))));
    writes(&mut candidate, 0.0, Kind::Take("me-1".to_owned()), "1");
    candidate.resign();
    candidate.answered(Ok(lease("2", "me-1", None)), at(0.1));
    assert_eq!(candidate.term(), None);
    writes(&mut candidate, 0.1, Kind::Release, "2");
}

#[test]
fn one_request_at_a_time_and_failures_are_retried_with_longer_pauses() {
    let mut candidate = election();
    assert_eq!(candidate.step(at(0.0)), Step::Read);
    assert_eq!(candidate.step(at(0.0)), Step::Wait(None));
    let mut now = 0.0;
    for pause in [0.25, 0.5, 1.0, 1.0, 1.0] {
        candidate.answered(failed(), at(now));
        waits(&mut candidate, now, now + pause);
        now += pause;
        assert_eq!(candidate.step(at(now)), Step::Read);
    }
}

#[test]
fn its_own_name_of_an_earlier_term_is_not_the_success_of_a_later_attempt() {
    let mut leader = leader();
    // It loses the Lease and attempts to take it again; the result is unknown.
    writes(&mut leader, 5.0, Kind::Renew, "2");
    leader.answered(Err(Failure::Conflict), at(5.0));
    reads(&mut leader, 5.0, Ok(lease("8", "", released(&[]))));
    assert_eq!(leader.term(), None);
    let second = Kind::Take("me-2".to_owned());
    writes(&mut leader, 5.0, second.clone(), "8");
    leader.answered(failed(), at(6.0));
    // A late event, or an old copy of the Lease that was restored.
    leader.noticed(lease("2", "me-1", None), at(6.1));
    assert_eq!(leader.term(), None);
    reads(&mut leader, 7.0, Ok(lease("9", "me-2", None)));
    assert_eq!(leader.term().unwrap().number, 2);
}

#[test]
fn a_copy_with_the_holder_of_an_attempt_that_was_not_executed_is_ignored() {
    let mut candidate = election();
    let lease_object = lease("1", "", released(&[]));
    reads(&mut candidate, 0.0, Ok(lease_object.clone()));
    writes(&mut candidate, 0.0, Kind::Take("me-1".to_owned()), "1");
    candidate.answered(failed(), at(1.0));
    // The version after the attempt would be another one.
    let same = Lease {
        holder: Some("me-1".to_owned()),
        ..lease_object
    };
    reads(&mut candidate, 2.0, Ok(same));
    assert_eq!(candidate.term(), None);
}

#[test]
fn failing_writes_are_retried_with_longer_pauses_even_if_reads_succeed() {
    for failure in [failed(), Err(Failure::Conflict)] {
        let mut candidate = election();
        let lease_object = lease("1", "", released(&[]));
        reads(&mut candidate, 0.0, Ok(lease_object.clone()));
        let mut now = 0.0;
        for _ in 0..8 {
            writes(&mut candidate, now, Kind::Take("me-1".to_owned()), "1");
            candidate.answered(failure.clone(), at(now));
            if let Step::Wait(Some(until)) = candidate.step(at(now)) {
                now = until.since(Moment::ZERO).as_secs_f64();
                assert_eq!(candidate.step(at(now)), Step::Read);
            }
            candidate.answered(Ok(lease_object.clone()), at(now));
        }
        assert!(now > 4.0, "{now}");
    }
}

#[test]
fn a_renewal_may_fail_and_be_repeated_before_the_right_to_grant_expires() {
    for duration in 3..=30 {
        let config = Config::new("me".to_owned(), Duration::from_secs(duration), D);
        assert!(config.margin >= config.duration / 10);
        assert!(config.margin + config.renew_every * 2 <= config.duration);
    }
    let default = Config::new("me".to_owned(), seconds(15.0), D);
    assert_eq!(
        (default.renew_every, default.margin),
        (seconds(5.0), seconds(1.5))
    );
}
