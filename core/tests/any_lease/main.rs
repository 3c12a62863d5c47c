//! Whatever a Lease contains: no panic, no wrapped number, no write that the API server refuses, no
//! grant earlier than allowed, and a normal election.
//!
//! The real candidate and the real queue run in simulated time. `PROPTEST_CASES=100000` tests more
//! Leases.

// A test fails by panicking.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod leases;

use std::time::Duration;

use gateway_queue_core::leadership::candidate::{Action, Candidate};
use gateway_queue_core::leadership::election;
use gateway_queue_core::leadership::lease_object::{Failure, LeaseObject};
use gateway_queue_core::lease_state::last_known::PublishedState;
use gateway_queue_core::lease_state::{HANDOVER, Handover, HandoverRecord, TokenState};
use gateway_queue_core::pacing::pacer::WaiterId;
use gateway_queue_core::pacing::scheduler::Queue;
use gateway_queue_core::testing::lease::patched;
use gateway_queue_core::testing::story::{self, INTERVAL};
use gateway_queue_core::time::Moment;
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use leases::{PATHS, absurd, any_value, handover, released_with, renewed_at, sound, with};

const DURATION: Duration = Duration::from_secs(15);

/// Far more than an election takes.
const END: Duration = Duration::from_secs(300);

/// The stored Lease. A write that the API server would refuse fails the test.
struct Server {
    lease: Vec<u8>,
}

impl Server {
    fn read(&self) -> Result<LeaseObject, Failure> {
        let unreadable = || Failure::Other("the response is not a Lease".to_owned());
        LeaseObject::parse(&self.lease).ok_or_else(unreadable)
    }

    fn patch(&mut self, patch: &Value) -> Result<LeaseObject, Failure> {
        assert!(patch["spec"]["renewTime"].is_string(), "{patch}");
        for field in ["uid", "resourceVersion"] {
            let precondition = patch["metadata"][field].as_str().unwrap();
            assert!(!precondition.is_empty(), "an unconditional write");
        }
        let lease: Value = serde_json::from_slice(&self.lease).unwrap();
        let mut lease = patched(&lease, patch).unwrap();
        let version = lease["metadata"]["resourceVersion"].as_str().unwrap();
        lease["metadata"]["resourceVersion"] = json!(format!("{version}+"));
        self.lease = lease.to_string().into_bytes();
        self.read()
    }
}

fn wall() -> Timestamp {
    "2026-11-27T03:04:05Z".parse().unwrap()
}

fn candidate() -> Candidate {
    let config = election::Config::new("my-bot-a_01".to_owned(), DURATION, INTERVAL);
    let published = PublishedState::new("my-bot-a");
    Candidate::new(config, ([10, 0, 0, 1], 9091).into(), published)
}

/// Runs the candidate until it is the leader or waits for longer than an election. Returns when it
/// took the Lease.
fn elect(
    candidate: &mut Candidate,
    server: &mut Server,
    from: Moment,
    wall: Timestamp,
) -> Option<Moment> {
    let mut now = from;
    while !candidate.state().leads() {
        match candidate.step(now, wall) {
            Action::Read => candidate.answered(server.read(), now),
            Action::Patch(patch) => candidate.answered(server.patch(&patch), now),
            Action::Watch(_) | Action::Unwatch => {}
            Action::Wait(Some(until)) if until < from + END => now = now.max(until),
            Action::Wait(_) => return None,
            Action::Settle { .. } => panic!("there is nothing to release"),
        }
    }
    // It must be able to renew.
    let renewal = loop {
        match candidate.step(now, wall) {
            Action::Patch(patch) => break patch,
            Action::Wait(Some(until)) => now = until,
            Action::Unwatch => {}
            other => panic!("{other:?}"),
        }
    };
    let until = candidate.state().term.as_ref().unwrap().until;
    candidate.answered(server.patch(&renewal), now);
    Some(until - (DURATION - election::margin(DURATION)))
}

/// Returns the bucket and the time of each of the first grants of a new leader.
fn grants(candidate: &Candidate, token: TokenState, from: Moment) -> Vec<(u32, Moment)> {
    let mut config = story::config(Duration::from_secs(60));
    config.max_concurrency = 2;
    let leadership = candidate.state();
    let term = leadership.term.as_ref().unwrap();
    let mut queue = Queue::taking_over(&config, token, &term.handover, from);
    if let (TokenState::Unchecked, Some(known)) = (token, &leadership.known) {
        queue.adopt(known.limits.clone(), from);
    }
    for shard in 0..4 {
        queue.offer(WaiterId(shard.into()), shard, from);
    }
    let (mut now, mut grants) = (from, Vec::new());
    while grants.len() < 4 {
        while let Some(grant) = queue.grant(now) {
            queue.written(grant.waiter, now);
            grants.push((grant.bucket, now));
        }
        match queue.wake_at() {
            Some(wake_at) if wake_at > now && wake_at < from + END => now = wake_at,
            _ => break,
        }
    }
    // Its handover must be readable, too.
    let record = HandoverRecord::Released(queue.handover("u", now)).write();
    assert!(HandoverRecord::read(&record).is_some(), "{record}");
    grants
}

/// Returns the handover of the last leader, if it is valid.
fn released(lease: &Value) -> Option<HandoverRecord> {
    let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or("");
    let record = lease["metadata"]["annotations"][HANDOVER].as_str()?;
    match HandoverRecord::read(record)? {
        _ if !holder.is_empty() => None,
        HandoverRecord::Released(left) if lease["metadata"]["uid"] != left.lease => None,
        release => Some(release),
    }
}

/// Checks an election of one candidate on this Lease, and the first grants after it.
fn check(lease: &[u8], wall: Timestamp) {
    let mut server = Server {
        lease: lease.to_vec(),
    };
    let mut candidate = candidate();
    let mut from = Moment::ZERO;
    if LeaseObject::parse(lease).is_none() {
        // The error is retried, and nothing is granted.
        let taken = elect(&mut candidate, &mut server, from, wall);
        assert_eq!(taken, None);
        from = Moment::ZERO + END;
        server.lease = sound().to_string().into_bytes();
    }
    let before: Value = serde_json::from_slice(&server.lease).unwrap();
    let taken = elect(&mut candidate, &mut server, from, wall).expect("an election");

    let spec = &before["spec"];
    let held = spec["holderIdentity"]
        .as_str()
        .is_some_and(|holder| !holder.is_empty());
    let named = spec["leaseDurationSeconds"]
        .as_u64()
        .filter(|named| held && *named > 0)
        .unwrap_or(30);
    let wait = Duration::from_secs(named.clamp(15, 30));
    let release = released(&before);
    let free_at = if release.is_some() { from } else { from + wait };
    // A retry may be a second later.
    let is_late = taken.since(free_at) > Duration::from_secs(2);
    assert!(
        taken >= free_at && !is_late,
        "taken at {taken:?}, free at {free_at:?}"
    );

    let granted = grants(&candidate, TokenState::None, taken);
    for (bucket, moment) in &granted {
        let due = match &release {
            Some(HandoverRecord::NeverLed) => taken,
            Some(HandoverRecord::Released(Handover { waits, .. })) if waits.len() == 2 => {
                from + waits[*bucket as usize]
            }
            Some(HandoverRecord::Released(Handover { waits, .. })) => {
                from + waits.iter().copied().max().unwrap_or(INTERVAL)
            }
            None => taken + INTERVAL,
        };
        assert!(
            *moment >= due,
            "bucket {bucket} at {moment:?}, due at {due:?}"
        );
    }
    if !matches!(release, Some(HandoverRecord::Released(_))) {
        assert_eq!(granted.len(), 4, "nothing is granted");
    }
    // With a token, at most the session starts that the last leader published are granted.
    let remaining = &before["metadata"]["annotations"]["gatewayqueue.dev/session-starts-remaining"];
    let remaining = remaining
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    assert!(grants(&candidate, TokenState::Unchecked, taken).len() as u64 <= remaining);
}

#[test]
fn one_absurd_field_leads_to_a_normal_election() {
    for base in [
        sound(),
        released_with(&handover(2, 5000, &[4000, 5000])),
        released_with(&HandoverRecord::NeverLed.write()),
    ] {
        for path in PATHS {
            for value in absurd() {
                println!("{path:?}: {value:?} on {base}");
                let lease = with(base.clone(), path, value);
                check(lease.to_string().as_bytes(), wall());
            }
        }
    }
}

#[test]
fn only_what_an_election_needs_makes_a_lease_unreadable() {
    let needed = ["metadata", "uid", "resourceVersion", "holderIdentity"];
    for path in PATHS {
        for value in absurd() {
            let lease = with(sound(), path, value.clone());
            let readable = LeaseObject::parse(lease.to_string().as_bytes()).is_some();
            let is_needed = path.iter().any(|key| needed.contains(key));
            // The holder is in the spec.
            let optional = path.contains(&"annotations") || !is_needed && path != ["spec"];
            assert!(readable || !optional, "{path:?}: {value:?}");
        }
    }
}

#[test]
fn a_handover_with_absurd_numbers_is_no_record() {
    let max = u64::MAX;
    for record in [
        handover(max, 5000, &[0, 0]),
        handover(0, 5000, &[max, 0]),
        handover(0, 5000, &[0, max]),
        handover(max, max, &[max, max]),
        handover(0, 5000, &[0; 5000]),
        handover(0, max, &[0]),
    ] {
        assert_eq!(HandoverRecord::read(&record), None, "{record}");
        check(released_with(&record).to_string().as_bytes(), wall());
    }
}

#[test]
fn the_wall_clock_may_be_at_either_end_of_its_range() {
    for wall in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
        for renewed in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
            let lease = renewed_at(&renewed.to_string());
            check(lease.to_string().as_bytes(), wall);
        }
    }
}

#[test]
fn session_starts_are_used_only_if_they_were_published_recently() {
    for (renewed, is_used) in [
        ("2026-11-27T03:04:00Z", true),
        // The clocks of two nodes differ slightly.
        ("2026-11-27T03:04:30Z", true),
        ("9999-12-30T21:58:00Z", false),
        ("2026-11-27T02:00:00Z", false),
    ] {
        let lease = renewed_at(renewed).to_string().into_bytes();
        let mut server = Server { lease };
        let mut candidate = candidate();
        elect(&mut candidate, &mut server, Moment::ZERO, wall()).unwrap();
        assert_eq!(candidate.state().known.is_some(), is_used, "{renewed}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_fields_lead_to_a_normal_election(
        record in proptest::option::of(proptest::sample::select(
            vec![HandoverRecord::NeverLed.write(), handover(2, 5000, &[4000, 5000])]
        )),
        changes in proptest::collection::btree_map(3..PATHS.len(), any_value(), 0..8),
        seconds in Timestamp::MIN.as_second()..=Timestamp::MAX.as_second(),
    ) {
        let mut lease = record.map_or_else(sound, |record| released_with(&record));
        for (path, value) in changes {
            lease = with(lease, PATHS[path], value);
        }
        check(lease.to_string().as_bytes(), Timestamp::from_second(seconds).unwrap());
    }

    #[test]
    fn any_bytes_grant_nothing_or_are_a_lease(mut cut in 0..600_usize, byte in any::<u8>()) {
        let mut bytes = released_with(&handover(2, 5000, &[4000, 5000])).to_string().into_bytes();
        cut = cut.min(bytes.len() - 1);
        bytes[cut] = byte;
        check(&bytes, wall());
        bytes.truncate(cut);
        check(&bytes, wall());
    }
}
