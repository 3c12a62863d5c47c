//! The status of the pods, and of the leader among them.

use super::*;
use crate::desired::APPLIED;

#[test]
fn the_lease_state_is_ignored_without_a_leader() {
    let lost = Leader::Lost {
        name: "my-bot-7d9f".to_owned(),
    };
    for (leader, text) in [
        (lost, "the leader my-bot-7d9f has not renewed the Lease"),
        (Leader::None, "no pod has acquired the Lease my-bot yet"),
    ] {
        let lease = lease(&entry(None));
        let observed = observed(Some(&available()), Some(&lease), leader);
        let status = computed(&with_token(), &Outcome::Applied, &observed);
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
    let lease = lease(&entry(None));
    let surging = deployment(json!({
        "observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1,
    }));
    let status = status_of(
        &with_token(),
        &Outcome::Applied,
        Some(&surging),
        Some(&lease),
    );
    let (_, reason, message) = ready(&status);
    assert_eq!(reason, "RolloutInProgress");
    assert!(message.starts_with("1 of 1 pods run the current spec, and 1 an older one."));
    assert_eq!(status.leader.as_deref(), Some("my-bot-7d9f"));
    assert_eq!(status.max_concurrency, Some(16));
    assert_eq!(status.replicas, Some(2));
}

#[test]
fn a_missing_follower_does_not_make_the_queue_unready() {
    let mut one_of_three = deployment(json!({
        "observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 1,
    }));
    one_of_three.spec.as_mut().unwrap().replicas = Some(3);
    let queue = queue(json!({"replicas": 3}));
    let lease = lease(&entry(None));
    let of = |deployment| {
        let status = status_of(&queue, &Outcome::Applied, Some(deployment), Some(&lease));
        ready(&status).1.to_owned()
    };
    assert_eq!(of(&one_of_three), "Granting");
    let status = status_of(&queue, &Outcome::Applied, Some(&one_of_three), Some(&lease));
    let rollout = ("True".to_owned(), "RolloutInProgress".to_owned());
    assert_eq!(reported(&status, ConditionType::Progressing), rollout);
    let mut none = one_of_three.clone();
    none.status.as_mut().unwrap().available_replicas = None;
    assert_eq!(of(&none), "RolloutInProgress");
}

#[test]
fn a_second_pod_that_a_quota_rejects_does_not_make_the_queue_unready() {
    let mut one_of_two = deployment(json!({
        "observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1,
        "conditions": [
            {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: pods"},
        ],
    }));
    one_of_two.spec.as_mut().unwrap().replicas = Some(2);
    let queue = queue(json!({"replicas": 2}));
    let lease = lease(&entry(None));
    let of = |deployment: &Deployment| {
        status_of(&queue, &Outcome::Applied, Some(deployment), Some(&lease))
    };
    let status = of(&one_of_two);
    assert_eq!(ready(&status).1, "Granting");
    let refused = ("False".to_owned(), "PodRefused".to_owned());
    assert_eq!(reported(&status, ConditionType::Progressing), refused);
    // A queue whose leader runs the previous spec is not ready.
    let mut older = one_of_two;
    let counts = older.status.as_mut().unwrap();
    (counts.replicas, counts.updated_replicas) = (Some(2), Some(1));
    assert_eq!(ready(&of(&older)).1, "PodRefused");
}

#[test]
fn a_quota_that_prevents_a_rollout_is_explained() {
    let refusal = "pods \"my-bot-7d9f\" is forbidden: exceeded quota: pods, requested: pods=1, \
                   used: pods=1, limited: pods=1";
    let conditions = json!([{"type": "ReplicaFailure", "status": "True", "message": refusal}]);
    // The pod of the old spec exists; that of the new one is rejected.
    let rollout = deployment(json!({
        "observedGeneration": 2, "replicas": 1, "updatedReplicas": 0, "availableReplicas": 1,
        "conditions": conditions,
    }));
    let lease = lease(&entry(None));
    let of = |deployment: &Deployment| {
        let status = status_of(
            &queue(json!({})),
            &Outcome::Applied,
            Some(deployment),
            Some(&lease),
        );
        let (_, reason, message) = ready(&status);
        (reason.to_owned(), message.to_owned())
    };
    let (reason, message) = of(&rollout);
    assert_eq!(reason, "PodRefused");
    assert!(message.contains(&refusal[1..]), "{message}");
    assert!(
        message.contains("allow one pod more than spec.replicas"),
        "{message}"
    );
    // The first pod is not a rollout.
    let first = deployment(json!({"observedGeneration": 2, "conditions": conditions}));
    let (_, message) = of(&first);
    assert!(!message.contains("rollout"), "{message}");
}

#[test]
fn a_token_problem_says_what_to_do_with_an_immutable_secret() {
    for blocked_by in [BlockedBy::TokenMissing, BlockedBy::TokenRejected] {
        let lease = lease(&entry(Some(blocked_by)));
        let queue = queue(json!({"tokenSecretRef": {"name": "discord"}}));
        let status = status_of(&queue, &Outcome::Applied, Some(&available()), Some(&lease));
        let (_, _, message) = ready(&status);
        let advice = "If the Secret is immutable, create another one";
        assert!(message.contains(advice), "{message}");
    }
}

#[test]
fn a_queue_without_replicas_reports_how_to_start_it() {
    let queue = queue(json!({"replicas": 0}));
    let mut none = deployment(json!({"observedGeneration": 2}));
    none.spec.as_mut().unwrap().replicas = Some(0);
    let status = status_of(&queue, &Outcome::Applied, Some(&none), None);
    let (ready, reason, message) = ready(&status);
    assert_eq!((ready, reason), ("False", "ScaledToZero"));
    let command = "`kubectl -n shop scale gwq my-bot --replicas=1`";
    assert!(message.contains(command), "{message}");
    assert_eq!(status.replicas, Some(0));
}

#[test]
fn a_rollout_is_distinguished_from_a_pod_that_cannot_start() {
    let applied = Outcome::Applied;
    let of = |deployment: Option<&Deployment>| {
        let status = status_of(&with_token(), &applied, deployment, None);
        let (_, reason, message) = ready(&status);
        (reason.to_owned(), message.to_owned())
    };
    assert_eq!(of(None).0, "RolloutInProgress");
    // The status of the previous generation.
    let old = deployment(json!({
        "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1,
    }));
    assert_eq!(of(Some(&old)).0, "RolloutInProgress");
    let quota = deployment(json!({"observedGeneration": 2, "conditions": [
        {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: pods"},
    ]}));
    let reported = ("PodRefused".to_owned(), "Exceeded quota: pods.".to_owned());
    assert_eq!(of(Some(&quota)), reported);
    let stuck = deployment(
        json!({"observedGeneration": 2, "replicas": 1, "conditions": [
            {"type": "Progressing", "status": "False", "message": "deadline exceeded"},
        ]}),
    );
    let (reason, message) = of(Some(&stuck));
    assert_eq!(reason, "NotReady");
    assert!(
        message.contains("kubectl -n shop describe pod"),
        "{message}"
    );
    assert_eq!(of(Some(&available())).0, "NoLeader");
    let blank = Lease::default();
    let silent = status_of(&with_token(), &applied, Some(&available()), Some(&blank));
    assert_eq!(ready(&silent).1, "RolloutInProgress");
    assert_eq!(silent.leader.as_deref(), Some("my-bot-7d9f"));
}

#[test]
fn a_failing_pod_is_reported_in_place_of_a_rollout() {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "my-bot-1"},
        "status": {"containerStatuses": [{
            "name": "queue", "image": "q:1", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ErrImagePull", "message": "no such host"}},
        }]},
    }))
    .unwrap();
    let lease = lease(&entry(None));
    let surging = deployment(json!({
        "observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1,
    }));
    let of = |deployment: &Deployment| {
        let mut observed = observed(Some(deployment), Some(&lease), led());
        observed.pods.push(Arc::new(pod.clone()));
        computed(&with_token(), &Outcome::Applied, &observed)
    };
    let stuck = of(&surging);
    assert_eq!(ready(&stuck).1, "ImagePullFailed");
    let progressing = reported(&stuck, ConditionType::Progressing);
    assert_eq!(
        progressing,
        ("False".to_owned(), "ImagePullFailed".to_owned())
    );
    // The older pod still grants.
    assert_eq!(stuck.leader.as_deref(), Some("my-bot-7d9f"));
    let well = of(&available());
    assert_eq!(ready(&well).1, "Granting");
    let complete = ("False".to_owned(), "Complete".to_owned());
    assert_eq!(reported(&well, ConditionType::Progressing), complete);
}

#[test]
fn the_deployment_of_the_previous_spec_does_not_count() {
    let queue = queue(json!({}));
    let lease = lease(&entry(None));
    let mut deployment = available();
    deployment
        .annotations_mut()
        .insert(APPLIED.to_owned(), "old".to_owned());
    let observed = observed(Some(&deployment), Some(&lease), led());
    let reason = |hash| {
        let inputs = Inputs {
            queue: &queue,
            owner: &Owner::of(&queue).unwrap(),
            outcome: &Outcome::Applied,
            deployment_hash: Some(hash),
            observed: &observed,
        };
        let status = compute(inputs, NOW.parse().unwrap());
        status.conditions.unwrap()[0].reason.clone()
    };
    assert_eq!(reason("new"), "RolloutInProgress");
    assert_eq!(reason("old"), "Granting");
}
