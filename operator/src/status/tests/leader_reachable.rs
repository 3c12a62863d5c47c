use super::*;

const HOLDER: &str = "my-bot-7d9f_0badcafe-1";

/// A report of a pod that cannot reach this leader.
fn report(leader: &str) -> String {
    let report = json!({"leader": leader, "address": "10.0.0.7:9091", "since": NOW});
    report.to_string()
}

/// A queue with three pods, of which `my-bot-b` is terminating, and with these reports of pods in
/// its Lease.
fn case(reports: &[(&str, &str)]) -> Case {
    let mut annotations = annotations(&entry(None));
    annotations.extend(reports.iter().map(|(pod, report)| {
        let key = format!("unreachable.gatewayqueue.dev/{pod}");
        (key, (*report).to_owned())
    }));
    let led = lease_with(&annotations, &json!({"holderIdentity": HOLDER}));
    let mut case = Case::granting().lease(led);
    case.observed.pods = [
        ("my-bot-7d9f", None),
        ("my-bot-a", None),
        ("my-bot-b", Some(NOW)),
    ]
    .map(|(name, deleted)| json!({"metadata": {"name": name, "deletionTimestamp": deleted}}))
    .map(|pod| Arc::new(serde_json::from_value(pod).unwrap()))
    .to_vec();
    case
}

/// Status, reason and message of the condition.
fn reachable(case: &Case) -> (String, String) {
    let status = case.status();
    let reachable = status.condition(ConditionType::LeaderReachable).unwrap();
    (
        condition(&status, ConditionType::LeaderReachable),
        reachable.message.clone(),
    )
}

#[test]
fn pods_that_cannot_reach_the_leader_are_named_with_its_address_and_what_to_do() {
    let report = report(HOLDER);
    let one = case(&[("my-bot-a", &report)]);
    let (value, message) = reachable(&one);
    assert_eq!(value, "False LeaderUnreachable");
    assert_eq!(
        message,
        "Pod my-bot-a cannot reach the leader my-bot-7d9f at 10.0.0.7:9091, although it renews its \
         Lease, and is not ready. Allow the queue's pods to reach each other on port 9091: check \
         `kubectl -n shop get networkpolicy` and the settings of the service mesh."
    );
    let (value, _) = reachable(&one.leader(Leader::None));
    assert_eq!(value, "Unknown NoLeader");
    let mut two = case(&[("my-bot-a", &report), ("my-bot-b", &report)]);
    Arc::make_mut(&mut two.observed.pods[2])
        .metadata
        .deletion_timestamp = None;
    let (_, message) = reachable(&two);
    assert!(
        message.starts_with("Pods my-bot-a, my-bot-b cannot"),
        "{message}"
    );
}

#[test]
fn reports_about_an_older_leader_or_by_deleted_or_foreign_pods_do_not_count() {
    let no_address = json!({"leader": HOLDER, "address": "no", "since": NOW});
    for (pod, report) in [
        ("my-bot-a", report("my-bot-7d9f_0badcafe-0")),
        ("my-bot-b", report(HOLDER)),
        ("my-bot-c", report(HOLDER)),
        ("my-bot-a", "what?".to_owned()),
        ("my-bot-a", no_address.to_string()),
    ] {
        let (value, message) = reachable(&case(&[(pod, &report)]));
        assert_eq!(value, "True Reachable", "{pod} {report}");
        assert_eq!(message, "Every pod reaches the leader my-bot-7d9f.");
    }
}
