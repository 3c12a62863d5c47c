use serde_json::{Value, json};

use super::*;
use crate::leadership::state::Leader;
use crate::lease_state::{HANDOVER, HandoverRecord, LEADER_ADDRESS};
use crate::testing::lease::merge;

mod reports;

const WALL: &str = "2026-11-27T03:04:05Z";

fn at(seconds: f64) -> Moment {
    Moment::ZERO + Duration::from_secs_f64(seconds)
}

fn wall() -> Timestamp {
    WALL.parse().unwrap()
}

fn candidate() -> Candidate {
    let config = Config::new(
        "my-bot-a_01".to_owned(),
        Duration::from_secs(15),
        Duration::from_secs(5),
    );
    let published = PublishedState::new("my-bot-a");
    Candidate::new(config, ([10, 0, 0, 1], 9091).into(), published)
}

fn record(lease: &Value) -> LeaseObject {
    LeaseObject::parse(lease.to_string().as_bytes()).unwrap()
}

/// The Lease of a new GatewayQueue.
fn new_lease() -> Value {
    json!({"metadata": {"uid": "u", "resourceVersion": "1", "annotations": {HANDOVER: HandoverRecord::NeverLed.write()}}})
}

/// What the API server makes of a patch of `lease`: the next version.
fn patched(lease: &Value, patch: &Value) -> Value {
    let mut lease = lease.clone();
    assert_eq!(patch["metadata"]["uid"], lease["metadata"]["uid"]);
    let version = &lease["metadata"]["resourceVersion"];
    assert_eq!(patch["metadata"]["resourceVersion"], *version);
    let version: u64 = version.as_str().unwrap().parse().unwrap();
    merge(&mut lease, patch);
    lease["metadata"]["resourceVersion"] = json!((version + 1).to_string());
    lease
}

fn patch(action: Action) -> Value {
    match action {
        Action::Patch(patch) => patch,
        other => panic!("{other:?} is no patch"),
    }
}

/// Expects that it reads the Lease now, with this result.
fn reads(candidate: &mut Candidate, now: f64, lease: &Value) {
    assert_eq!(candidate.step(at(now), wall()), Action::Read);
    candidate.answered(Ok(record(lease)), at(now));
}

/// Executes the write that is due now. Returns the Lease after it.
fn writes(candidate: &mut Candidate, now: f64, lease: &Value) -> Value {
    let patch = patch(candidate.step(at(now), wall()));
    let lease = patched(lease, &patch);
    candidate.answered(Ok(record(&lease)), at(now));
    lease
}

#[test]
fn a_leader_takes_renews_settles_and_releases() {
    let mut candidate = candidate();
    reads(&mut candidate, 0.0, &new_lease());
    let lease = writes(&mut candidate, 0.0, &new_lease());
    assert_eq!(lease["spec"]["holderIdentity"], "my-bot-a_01-1");
    assert_eq!(
        lease["metadata"]["annotations"][LEADER_ADDRESS],
        "10.0.0.1:9091"
    );
    assert_eq!(candidate.state().term.as_ref().unwrap().number, 1);
    let asked = |request| Event::Asked {
        request,
        succeeded: true,
    };
    let leads = Event::BecameLeader("my-bot-a_01-1".to_owned());
    let events = [
        asked(Request::Read),
        Event::Ready,
        asked(Request::Take),
        leads,
    ];
    assert_eq!(candidate.events(), events);

    // The new state is written after a pause, which doubles with each write up to 2 s.
    waits(&mut candidate, 0.05, 0.1);
    let mut lease = writes(&mut candidate, 0.1, &lease);
    let mut number = 0;
    let mut change = |candidate: &mut Candidate| {
        number += 1;
        let mut published = PublishedState::new("my-bot-a");
        published.entry.max_concurrency = Some(number);
        candidate.publish(&published);
    };
    let mut now = 0.1;
    for pause in [0.2, 0.4, 0.8, 1.6, 2.0, 2.0] {
        change(&mut candidate);
        waits(&mut candidate, now + 0.01, now + pause);
        now += pause;
        lease = writes(&mut candidate, now, &lease);
    }
    let renewed = lease["spec"]["renewTime"].as_str();
    assert_eq!(renewed, Some("2026-11-27T03:04:05.000000Z"));
    waits(&mut candidate, 7.2, 12.1);

    candidate.resign(at(8.0));
    assert!(!candidate.state().leads() && !candidate.has_left());
    let settle = candidate.step(at(8.0), wall());
    let Action::Settle { lease: uid, term } = settle else {
        panic!("{settle:?}");
    };
    assert_eq!((uid.as_str(), term.number), ("u", 1));
    // Nothing else happens until the queue task answers.
    assert_eq!(candidate.step(at(8.1), wall()), Action::Wait(None));
    let left = Handover {
        lease: uid,
        waits: vec![Duration::from_secs(4)],
        spacing: Duration::from_secs(5),
        uncounted: Some(1),
    };
    candidate.settled(Some(left.clone()), at(8.2));
    let lease = writes(&mut candidate, 8.2, &lease);
    assert_eq!(
        record(&lease).lease.handover,
        Some(HandoverRecord::Released(left))
    );
    assert!(candidate.has_left());
}

#[test]
fn a_handover_that_is_delayed_is_retried_and_is_no_failed_request() {
    let mut candidate = candidate();
    reads(&mut candidate, 0.0, &new_lease());
    let lease = writes(&mut candidate, 0.0, &new_lease());
    candidate.resign(at(1.0));
    candidate.events();
    let step = candidate.step(at(1.0), wall());
    assert!(matches!(step, Action::Settle { .. }));
    candidate.settled(None, at(3.0));
    assert_eq!(candidate.events(), [Event::HandoverDelayed]);
    waits(&mut candidate, 3.0, 3.25);
    reads(&mut candidate, 3.25, &lease);
    let step = candidate.step(at(3.25), wall());
    assert!(matches!(step, Action::Settle { .. }));
}

#[test]
fn a_follower_watches_and_a_leader_does_not() {
    let mut candidate = candidate();
    let mut lease = json!({"metadata": {"uid": "u", "resourceVersion": "1",
        "annotations": {LEADER_ADDRESS: "10.0.0.2:9091"}},
        "spec": {"holderIdentity": "my-bot-b_02-1", "leaseDurationSeconds": 15}});
    reads(&mut candidate, 0.0, &lease);
    let leader = Leader {
        holder: "my-bot-b_02-1".to_owned(),
        address: ([10, 0, 0, 2], 9091).into(),
    };
    assert_eq!(candidate.state().leader.as_ref(), Some(&leader));
    let events = candidate.events();
    assert!(events.contains(&Event::OtherBecameLeader(leader)));
    let watch = Action::Watch("1".to_owned());
    assert_eq!(candidate.step(at(0.0), wall()), watch);
    waits(&mut candidate, 0.0, 15.0);

    // A watch that ends is followed by a read, and started again after a pause.
    candidate.watch_ended(at(1.0));
    reads(&mut candidate, 1.0, &lease);
    waits(&mut candidate, 1.0, 3.0);
    assert_eq!(candidate.step(at(3.0), wall()), watch);

    // The leader is silent for the whole duration: it is replaced.
    lease = writes(&mut candidate, 15.0, &lease);
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
    assert!(candidate.state().leads());
    assert_eq!(candidate.step(at(15.0), wall()), Action::Unwatch);
    waits(&mut candidate, 15.0, 15.1);
}

#[test]
fn a_failure_is_reported_once_and_its_end_once() {
    let mut candidate = candidate();
    reads(&mut candidate, 0.0, &new_lease());
    let lease = writes(&mut candidate, 0.0, &new_lease());
    candidate.events();
    let failure = || Err(Failure::Other("no route".to_owned()));
    patch(candidate.step(at(2.0), wall()));
    candidate.answered(failure(), at(3.0));
    assert_eq!(candidate.step(at(4.0), wall()), Action::Read);
    candidate.answered(failure(), at(4.5));
    let events = candidate.events();
    let unreachable = Event::Unreachable {
        request: Request::Renew,
        error: "no route".to_owned(),
    };
    assert_eq!(events[1], unreachable);
    assert_eq!(events.len(), 3, "{events:?}");

    // The right to grant ends before the next success.
    candidate.step(at(13.5), wall());
    assert_eq!(candidate.events(), [Event::Expired]);
    candidate.answered(Ok(record(&lease)), at(14.0));
    writes(&mut candidate, 14.0, &lease);
    let events = candidate.events();
    let back = [Event::Reachable(Request::Renew), Event::ExpiryEnded];
    assert!(events.ends_with(&back), "{events:?}");
}

fn waits(candidate: &mut Candidate, now: f64, until: f64) {
    let wait = Action::Wait(Some(at(until)));
    assert_eq!(candidate.step(at(now), wall()), wait);
}

/// Executes the candidate's actions until `until`; each request has this result.
fn asks_until(
    candidate: &mut Candidate,
    from: f64,
    until: f64,
    answer: &Result<LeaseObject, Failure>,
) {
    let mut now = at(from);
    while now < at(until) {
        match candidate.step(now, wall()) {
            Action::Read | Action::Patch(_) => candidate.answered(answer.clone(), now),
            Action::Settle { lease, term } => {
                let left = term.handover.pass_on(&lease, Duration::from_secs(5), now);
                candidate.settled(Some(left), now);
            }
            Action::Watch(_) | Action::Unwatch => {}
            Action::Wait(Some(until)) => now = now.max(until),
            Action::Wait(None) => return,
        }
    }
}

#[test]
fn a_resigned_pod_notices_that_its_queue_was_deleted() {
    let denied = || Err(Failure::Denied("403".to_owned()));
    let other = || Err(Failure::Other("500".to_owned()));
    for (answer, gone) in [
        (Err(Failure::Missing), true),
        (denied(), true),
        (other(), false),
    ] {
        for to_end in [true, false] {
            let mut candidate = candidate();
            reads(&mut candidate, 0.0, &new_lease());
            writes(&mut candidate, 0.0, &new_lease());
            if to_end {
                candidate.resign(at(1.0));
            }
            asks_until(&mut candidate, 1.0, 5.5, &answer);
            assert!(!candidate.is_gone());
            asks_until(&mut candidate, 5.5, 20.0, &answer);
            assert_eq!(candidate.is_gone(), gone && to_end, "{answer:?}");
        }
    }
    // Another response in between restarts the time.
    let mut candidate = candidate();
    candidate.resign(at(0.0));
    asks_until(&mut candidate, 0.0, 4.5, &denied());
    asks_until(&mut candidate, 4.5, 5.5, &other());
    asks_until(&mut candidate, 5.5, 9.5, &denied());
    assert!(!candidate.is_gone());
    asks_until(&mut candidate, 9.5, 15.0, &denied());
    assert!(candidate.is_gone());
    assert!(candidate.events().contains(&Event::Gone));
}
