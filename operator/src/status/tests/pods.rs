//! The status of the pods, and of the leader among them.

use super::*;
use crate::desired::APPLIED;
use crate::observe::pod::ObservedPod;

/// A queue with this number of replicas that has a leader, and the status of its Deployment.
fn replicas(replicas: i32, status: Value) -> Case {
    let mut deployment = deployment(status);
    deployment.replicas = replicas;
    Case::with(queue(json!({ "replicas": replicas })), None).deployment(Some(deployment))
}

/// The same status with a condition of the Deployment.
fn with_condition(mut status: Value, type_: &str, state: &str, message: &str) -> Value {
    status["conditions"] = json!([{"type": type_, "status": state, "message": message}]);
    status
}

/// The status of a Deployment of which a pod is rejected.
fn with_refusal(status: Value, message: &str) -> Value {
    with_condition(status, "ReplicaFailure", "True", message)
}

#[test]
fn the_lease_state_is_ignored_without_a_leader() {
    let lost = Leader::Lost {
        name: "my-bot-7d9f".to_owned(),
    };
    for (leader, text) in [
        (lost, "the leader my-bot-7d9f has not renewed the Lease"),
        (
            Leader::None,
            "no pod has acquired the Lease my-bot-queue yet",
        ),
    ] {
        let status = Case::granting().leader(leader).status();
        let (ready, reason, message) = ready(&status);
        assert_eq!((ready, reason), ("False", "NoLeader"));
        assert!(message.contains(text), "{message}");
        let logs = "`kubectl -n shop logs --prefix -l app.kubernetes.io/instance=my-bot`";
        assert!(message.contains(logs), "{message}");
        assert_eq!(status.leader, None);
        assert_eq!(status.session_starts, None);
        assert_eq!(status.url.as_deref(), Some("http://my-bot.shop.svc"));
    }
}

#[test]
fn the_lease_state_is_reported_during_a_rollout() {
    let status = replicas(1, counts(2, 1, 1)).status();
    let (_, reason, message) = ready(&status);
    assert_eq!(reason, "RolloutInProgress");
    assert!(message.starts_with("1 of 1 pods run the current spec, and 1 an older one."));
    assert_eq!(status.leader.as_deref(), Some("my-bot-7d9f"));
    assert_eq!(status.max_concurrency, Some(16));
    assert_eq!(status.replicas, Some(2));
}

#[test]
fn a_missing_follower_does_not_make_the_queue_unready() {
    let status = replicas(3, counts(3, 3, 1)).status();
    assert_eq!(ready(&status).1, "Granting");
    let progressing = condition(&status, ConditionType::Progressing);
    assert_eq!(progressing, "True RolloutInProgress");
    assert_eq!(replicas(3, counts(3, 3, 0)).reason(), "RolloutInProgress");
}

#[test]
fn a_second_pod_that_a_quota_rejects_does_not_make_the_queue_unready() {
    let refusal = "exceeded quota: pods";
    let status = replicas(2, with_refusal(counts(1, 1, 1), refusal)).status();
    assert_eq!(ready(&status).1, "Granting");
    let progressing = condition(&status, ConditionType::Progressing);
    assert_eq!(progressing, "False PodRefused");
    // A queue whose leader runs the previous spec is not ready.
    let older = replicas(2, with_refusal(counts(2, 1, 1), refusal));
    assert_eq!(older.reason(), "PodRefused");
}

#[test]
fn a_quota_that_prevents_a_rollout_is_explained() {
    let refusal = "pods \"my-bot-7d9f\" is forbidden: exceeded quota: pods, requested: pods=1, \
                   used: pods=1, limited: pods=1";
    // The pod of the old spec exists; that of the new one is rejected.
    let rollout = replicas(1, with_refusal(counts(1, 0, 1), refusal));
    let (reason, message) = rollout.reason_and_message();
    assert_eq!(reason, "PodRefused");
    assert!(message.contains(&refusal[1..]), "{message}");
    assert!(
        message.contains("allow one pod more than spec.replicas"),
        "{message}"
    );
    // The first pod is not a rollout.
    let first = replicas(1, with_refusal(counts(0, 0, 0), refusal));
    let (_, message) = first.reason_and_message();
    assert!(!message.contains("rollout"), "{message}");
}

#[test]
fn a_queue_without_replicas_reports_how_to_start_it() {
    let status = replicas(0, counts(0, 0, 0)).leaderless().status();
    let (ready, reason, message) = ready(&status);
    assert_eq!((ready, reason), ("False", "ScaledToZero"));
    let command = "`kubectl -n shop scale gwq my-bot --replicas=1`";
    assert!(message.contains(command), "{message}");
    assert_eq!(status.replicas, Some(0));
}

#[test]
fn a_rollout_is_distinguished_from_a_pod_that_cannot_start() {
    let case = |deployment| Case::granting().leaderless().deployment(deployment);
    assert_eq!(case(None).reason(), "RolloutInProgress");
    // The status of the previous generation.
    let mut old = counts(1, 1, 1);
    old["observedGeneration"] = json!(1);
    assert_eq!(case(Some(deployment(old))).reason(), "RolloutInProgress");
    let quota = deployment(with_refusal(counts(0, 0, 0), "exceeded quota: pods"));
    let expected = ("PodRefused".to_owned(), "Exceeded quota: pods.".to_owned());
    assert_eq!(case(Some(quota)).reason_and_message(), expected);
    let stuck = with_condition(counts(1, 0, 0), "Progressing", "False", "deadline exceeded");
    let (reason, message) = case(Some(deployment(stuck))).reason_and_message();
    assert_eq!(reason, "NotReady");
    assert!(
        message.contains("kubectl -n shop describe pod"),
        "{message}"
    );
    assert_eq!(case(Some(available())).reason(), "NoLeader");
    let silent = Case::granting().lease(ObservedLease::default()).status();
    assert_eq!(ready(&silent).1, "RolloutInProgress");
    assert_eq!(silent.leader.as_deref(), Some("my-bot-7d9f"));
}

#[test]
fn a_failing_pod_is_reported_in_place_of_a_rollout() {
    let pod: ObservedPod = serde_json::from_value(json!({
        "metadata": {"name": "my-bot-1"},
        "status": {"containerStatuses": [{
            "name": "queue", "image": "q:1", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ErrImagePull", "message": "no such host"}},
        }]},
    }))
    .unwrap();
    let of = |counts, expected| {
        let mut case = replicas(1, counts);
        case.observed.pods.push(Arc::new(pod.clone()));
        let status = case.status();
        assert_eq!(condition(&status, ConditionType::Progressing), expected);
        status
    };
    let stuck = of(counts(2, 1, 1), "False ImagePullFailed");
    assert_eq!(ready(&stuck).1, "ImagePullFailed");
    // The older pod still grants.
    assert_eq!(stuck.leader.as_deref(), Some("my-bot-7d9f"));
    let well = of(counts(1, 1, 1), "False Complete");
    assert_eq!(ready(&well).1, "Granting");
}

#[test]
fn the_deployment_of_the_previous_spec_does_not_count() {
    let mut deployment = available();
    let annotated = json!({"generation": 2, "annotations": {APPLIED: "old"}});
    deployment.metadata = serde_json::from_value(annotated).unwrap();
    let mut case = Case::granting().deployment(Some(deployment));
    for (hash, expected) in [("new", "RolloutInProgress"), ("old", "Granting")] {
        case.deployment_hash = Some(hash);
        assert_eq!(case.reason(), expected);
    }
}
