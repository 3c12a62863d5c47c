use super::*;

const HOLDER: &str = "my-bot-7d9f_0badcafe-1";

/// A Lease with the reports of these pods.
fn reported(reports: &[(&str, &str)]) -> Lease {
    let mut led = lease(&entry(None));
    let annotations = led.metadata.annotations.as_mut().unwrap();
    annotations.extend(reports.iter().map(|(pod, report)| {
        let key = format!("unreachable.gatewayqueue.dev/{pod}");
        (key, (*report).to_owned())
    }));
    led.spec = serde_json::from_value(json!({"holderIdentity": HOLDER})).unwrap();
    led
}

fn report(leader: &str) -> String {
    let report = json!({"leader": leader, "address": "10.0.0.7:9091", "since": NOW});
    report.to_string()
}

fn pods(names: &[&str]) -> Vec<Arc<Pod>> {
    let pod = |name: &&str| serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    names.iter().map(|name| Arc::new(pod(name))).collect()
}

fn reachable(lease: &Lease, leader: Leader, pods: &[Arc<Pod>]) -> Condition {
    let mut observed = observed(Some(&available()), Some(lease), leader);
    observed.pods = pods.to_vec();
    let status = computed(&with_token(), &Outcome::Applied, &observed);
    let condition = status.condition(ConditionType::LeaderReachable);
    condition.unwrap().clone()
}

#[test]
fn pods_that_cannot_reach_the_leader_are_named_with_its_address_and_what_to_do() {
    let there = pods(&["my-bot-7d9f", "my-bot-a", "my-bot-b"]);
    let a = reported(&[("my-bot-a", &report(HOLDER))]);
    let condition = reachable(&a, led(), &there);
    assert_eq!(
        (&*condition.status, &*condition.reason),
        ("False", "LeaderUnreachable")
    );
    assert_eq!(
        condition.message,
        "Pod my-bot-a cannot reach the leader my-bot-7d9f at 10.0.0.7:9091, although it renews its \
         Lease, and is not ready. Allow the queue's pods to reach each other on port 9091: check \
         `kubectl -n shop get networkpolicy` and the settings of the service mesh."
    );
    let both = [
        ("my-bot-a", &*report(HOLDER)),
        ("my-bot-b", &*report(HOLDER)),
    ];
    let condition = reachable(&reported(&both), led(), &there);
    assert!(
        condition
            .message
            .starts_with("Pods my-bot-a, my-bot-b cannot"),
        "{}",
        condition.message
    );
    let nobody = reachable(&a, Leader::None, &there);
    assert_eq!((&*nobody.status, &*nobody.reason), ("Unknown", "NoLeader"));
}

#[test]
fn reports_about_an_older_leader_or_by_deleted_or_foreign_pods_do_not_count() {
    let there = pods(&["my-bot-7d9f", "my-bot-a"]);
    let mut leaving = pods(&["my-bot-b"]);
    let now = serde_json::from_value(json!(NOW)).unwrap();
    Arc::make_mut(&mut leaving[0]).metadata.deletion_timestamp = Some(now);
    let there = [there, leaving].concat();
    for (pod, report) in [
        ("my-bot-a", report("my-bot-7d9f_0badcafe-0")),
        ("my-bot-b", report(HOLDER)),
        ("my-bot-c", report(HOLDER)),
        ("my-bot-a", "what?".to_owned()),
        (
            "my-bot-a",
            json!({"leader": HOLDER, "address": "no", "since": NOW}).to_string(),
        ),
    ] {
        let condition = reachable(&reported(&[(pod, &report)]), led(), &there);
        assert_eq!(condition.status, "True", "{pod} {report}");
        assert_eq!(
            condition.message,
            "Every pod reaches the leader my-bot-7d9f."
        );
    }
}
