//! Reports of pods that cannot reach the leader, as they change the Lease.

use super::*;
use crate::leadership::lease_object::report;
use crate::lease_state::Unreachable;

/// The Lease after another pod has written its report.
fn reported(lease: &Value, pod: &str, leader: &str) -> Value {
    let unreachable = Unreachable {
        leader: leader.to_owned(),
        address: ([10, 0, 0, 1], 9091).into(),
        since: wall(),
    };
    let mut lease = lease.clone();
    let version = lease["metadata"]["resourceVersion"].as_str().unwrap();
    let version = version.to_owned();
    merge(&mut lease, &report("u", &version, pod, Some(&unreachable)));
    lease["metadata"]["resourceVersion"] = json!(format!("{version}0"));
    lease
}

fn reports(lease: &Value) -> Vec<String> {
    let annotations = record(lease).annotations.into_keys();
    annotations
        .filter(|key| key.starts_with("unreachable."))
        .collect()
}

/// The Lease while another pod leads, at its nth renewal.
fn held(renewal: u32) -> Value {
    json!({
        "metadata": {"uid": "u", "resourceVersion": format!("7{renewal}"),
            "annotations": {LEADER_ADDRESS: "10.0.0.2:9091"}},
        "spec": {"holderIdentity": "my-bot-b_01-1", "leaseDurationSeconds": 15,
            "renewTime": format!("2026-11-27T03:04:{renewal:02}.000000Z")},
    })
}

#[test]
fn a_report_costs_the_leader_one_conflict_and_no_time() {
    let mut candidate = candidate();
    reads(&mut candidate, 0.0, &new_lease());
    let lease = writes(&mut candidate, 0.0, &new_lease());
    let lease = writes(&mut candidate, 2.0, &lease);
    let until = candidate.state().term.as_ref().unwrap().until;

    let lease = reported(&lease, "my-bot-b", "my-bot-a_01-1");
    let lease = reported(&lease, "my-bot-c", "my-bot-c_01-9");
    // Its renewal names an older version. It reads the Lease and renews it immediately.
    let _ = patch(candidate.step(at(7.0), wall()));
    candidate.answered(Err(Failure::Conflict), at(7.0));
    reads(&mut candidate, 7.0, &lease);
    let lease = writes(&mut candidate, 7.0, &lease);
    let renewed_until = candidate.state().term.as_ref().unwrap().until;
    assert_eq!(renewed_until.since(until), Duration::from_secs(5));
    // A report about another leader is obsolete.
    assert_eq!(reports(&lease), [Unreachable::key("my-bot-b")]);
    waits(&mut candidate, 7.1, 12.0);
}

#[test]
fn a_pod_that_takes_the_lease_removes_the_reports_about_the_leader_before() {
    let mut candidate = candidate();
    let mut free = reported(&new_lease(), "my-bot-a", "my-bot-c_01-9");
    free = reported(&free, "my-bot-b", "what?");
    reads(&mut candidate, 0.0, &free);
    assert_eq!(reports(&free).len(), 2);
    let taken = writes(&mut candidate, 0.0, &free);
    assert_eq!(reports(&taken), [""; 0]);
}

#[test]
fn only_a_renewal_by_another_pod_is_one_and_it_brings_this_pods_report() {
    let mut candidate = candidate();
    reads(&mut candidate, 0.0, &held(1));
    // The renewal may be older than the pod.
    assert_eq!(candidate.renewal(), None);
    let watch = Action::Watch("71".to_owned());
    assert_eq!(candidate.step(at(0.0), wall()), watch);
    let lease = reported(&held(1), "my-bot-a", "my-bot-b_01-1");
    candidate.noticed(record(&lease), at(1.0));
    assert_eq!(candidate.renewal(), None);

    let lease = reported(&held(6), "my-bot-a", "my-bot-b_01-1");
    candidate.noticed(record(&lease), at(5.0));
    let renewal = candidate.renewal().unwrap();
    assert_eq!((renewal.uid.as_str(), renewal.at), ("u", at(5.0)));
    assert_eq!(renewal.holder, "my-bot-b_01-1");
    let report = renewal.report.as_deref().and_then(Unreachable::read);
    assert_eq!(report.unwrap().leader, "my-bot-b_01-1");

    assert_eq!(renewal.version, "760");
    assert_eq!(renewal.duration, Some(Duration::from_secs(15)));
    let seen = renewal.clone();

    // The report of another pod makes it another version of the same renewal.
    let lease = reported(&lease, "my-bot-c", "my-bot-b_01-1");
    candidate.noticed(record(&lease), at(5.5));
    let version = "7600".to_owned();
    assert_eq!(candidate.renewal(), Some(&Renewal { version, ..seen }));

    // The watch ends. A renewal that a read finds may be as old as the last observation.
    candidate.watch_ended(at(5.5));
    reads(&mut candidate, 14.0, &held(7));
    assert_eq!(candidate.renewal().unwrap().at, at(5.5));

    // A release is not a renewal.
    let seen = candidate.renewal().cloned();
    let mut free = held(8);
    free["spec"]["holderIdentity"] = json!("");
    candidate.noticed(record(&free), at(15.0));
    assert_eq!(candidate.renewal(), seen.as_ref());
}
