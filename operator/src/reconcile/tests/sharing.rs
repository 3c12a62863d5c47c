//! Two GatewayQueues that name one token, children that another client changes, and
//! GatewayQueues that cannot be read.

use super::*;

fn discord() -> Value {
    json!({"tokenSecretRef": {"name": "discord"}})
}

fn elder() -> GatewayQueue {
    let mut elder = queue(discord());
    elder.metadata.name = Some("elder".to_owned());
    elder.metadata.uid = Some("0000".to_owned());
    elder
}

/// The label of a pod that grants with the token of the elder.
fn token_label() -> Value {
    let hash = desired::token_hash(&elder().spec.token_secret_ref.unwrap());
    json!({ desired::TOKEN: hash })
}

impl Operator {
    /// Lets the operator see its GatewayQueue and another one with the same token.
    fn share_token_with(&self, other: &GatewayQueue) {
        for queue in [other, &self.queue] {
            let claims = &self.context.applier.token_claims;
            claims.saw(&stored(queue), Instant::now());
        }
    }

    /// The watch returns the Deployment.
    fn observe_deployment(&mut self) {
        let deployment = self.object("deployments");
        put(&mut self.writers.deployments, deployment);
    }

    fn replicas(&self) -> Value {
        self.object("deployments")["spec"]["replicas"].clone()
    }

    fn expect_no_pods(&self) {
        assert_eq!(self.replicas(), 0);
        assert!(!self.has(LEASE));
    }

    /// One pod, and a blank Lease, because another queue may have granted a moment ago.
    fn expect_pod_that_waits(&self) {
        assert_eq!(self.replicas(), 1);
        assert_eq!(self.object("leases")["metadata"].get("annotations"), None);
    }
}

#[tokio::test]
async fn the_younger_of_two_queues_with_one_token_has_no_pods_until_the_elder_is_deleted() {
    let mut operator = Operator::new(discord());
    operator.share_token_with(&elder());
    let action = operator.reconcile().await.unwrap();
    assert_eq!(action, Action::await_change());
    assert_eq!(operator.reason(), "TokenShared");
    operator.expect_no_pods();
    assert!(!operator.has(BUDGET));
    assert_eq!(operator.take_events(), ["TokenShared"]);

    let claims = &operator.context.applier.token_claims;
    let again = claims.lost(&stored(&elder()), Instant::now());
    assert_eq!(again, [("shop".to_owned(), "my-bot".to_owned())]);
    operator.observe_deployment();
    operator.reconcile().await.unwrap();
    operator.expect_pod_that_waits();
}

#[tokio::test]
async fn a_queue_waits_for_the_pods_of_one_that_gave_up_the_token() {
    let mut operator = Operator::new(discord());
    operator.born();
    // Its GatewayQueue was deleted, or names another token now.
    let left = pod("gone", token_label());
    put(&mut operator.writers.pods, left.clone());
    operator.reconcile().await.unwrap();
    assert_eq!(operator.reason(), "TokenShared");
    let message = operator.ready("message");
    assert!(
        message.contains("Pods of GatewayQueue gone still use"),
        "{message}"
    );
    operator.expect_no_pods();

    let deleted = Event::Delete(serde_json::from_value(left).unwrap());
    operator.writers.pods.apply_watcher_event(&deleted);
    operator.observe_deployment();
    operator.reconcile().await.unwrap();
    operator.expect_pod_that_waits();
}

#[tokio::test]
async fn a_queue_waits_for_a_deployment_with_pods_and_not_for_one_without() {
    for (wanted, existing, waits) in [(1, 0, true), (0, 1, true), (0, 0, false)] {
        let mut operator = Operator::new(discord());
        let mut labels = token_label();
        labels[desired::INSTANCE] = json!("gone");
        let of_another = json!({
            "metadata": {"name": "gone-queue", "namespace": "shop"},
            "spec": {"replicas": wanted, "selector": {}, "template": {
                "metadata": {"labels": labels},
            }},
            "status": {"replicas": existing},
        });
        put(&mut operator.writers.deployments, of_another);
        operator.reconcile().await.unwrap();
        assert_eq!(operator.replicas() == 0, waits, "{wanted} {existing}");
    }
}

#[tokio::test]
async fn a_queue_with_the_token_keeps_its_pods_when_another_has_some() {
    let mut operator = Operator::new(discord());
    operator.born();
    operator.reconcile().await.unwrap();
    operator.observe_deployment();
    put(&mut operator.writers.pods, pod("younger", token_label()));
    operator.reconcile().await.unwrap();
    assert_eq!(operator.replicas(), 1);
    assert_ne!(operator.reason(), "TokenShared");
}

#[tokio::test]
async fn a_queue_gives_up_its_token_even_if_a_name_is_taken() {
    let mut operator = Operator::applied().await;
    operator.create_foreign(BUDGET);
    operator.queue.spec.replicas = 2;
    operator.reconcile().await.unwrap();
    assert_eq!(operator.replicas(), 2);
    assert_eq!(operator.reason(), "NameTaken");
    operator.queue.spec.token_secret_ref = elder().spec.token_secret_ref;
    operator.share_token_with(&elder());
    operator.reconcile().await.unwrap();
    operator.expect_no_pods();
}

#[tokio::test]
async fn the_lease_of_a_queue_that_gives_up_its_token_is_deleted() {
    let mut operator = Operator::applied().await;
    operator.queue.spec.token_secret_ref = elder().spec.token_secret_ref;
    operator.share_token_with(&elder());
    operator.reconcile().await.unwrap();
    operator.expect_no_pods();
}

#[tokio::test]
async fn of_two_queues_created_at_the_same_time_neither_starts_immediately() {
    let mut operator = Operator::new(discord());
    let mut younger = elder();
    younger.metadata.uid = Some("0002".to_owned());
    operator.share_token_with(&younger);
    operator.reconcile().await.unwrap();
    operator.expect_pod_that_waits();
}

#[tokio::test]
async fn a_child_that_keeps_changing_is_reverted_with_growing_pauses() {
    let mut operator = Operator::applied().await;
    let mut waits = Vec::new();
    for _ in 0..4 {
        operator.edit_service();
        let action = operator.reconcile().await.unwrap();
        let writes = operator.take_writes().len();
        waits.push((writes, action != Action::await_change()));
    }
    let (reverted, left) = ((1, false), (0, true));
    assert_eq!(waits, [reverted, reverted, left, left]);
    assert_eq!(operator.take_events(), ["ChildReverted"; 2]);
}

#[tokio::test]
async fn a_deleted_child_is_reported_even_by_a_restarted_operator() {
    let mut restarted = Operator::applied().await.restarted();
    restarted.api().objects.remove(SERVICE);
    restarted.observe_deployment();
    restarted.reconcile().await.unwrap();
    assert_eq!(restarted.take_events(), ["ChildReverted"]);
    // A child that was rejected before never existed.
    let mut operator = Operator::new(json!({}));
    operator.api().refuse = Some(("/services/", 403, 1));
    operator.reconcile().await.unwrap_err();
    operator.take_events();
    operator.reconcile().await.unwrap();
    assert_eq!(operator.take_events(), ["RolloutInProgress"]);
}

#[tokio::test]
async fn an_unreadable_queue_is_reported_once_and_not_changed() {
    let mut operator = Operator::new(json!({}));
    let metadata = json!({"name": "my-bot", "namespace": "shop", "uid": "0001", "generation": 7});
    let mut object = json!({"metadata": metadata, "spec": {"port": "x"}});
    // The response to a write contains the spec.
    let existing = object.clone();
    operator.api().objects.insert(STATUS.to_owned(), existing);
    let broken = Arc::new(serde_json::from_value(object.clone()).unwrap());
    reconcile(broken, Arc::clone(&operator.context))
        .await
        .unwrap();
    assert_eq!(operator.take_writes(), [STATUS]);
    assert_eq!(operator.reason(), "InvalidSpec");
    assert_eq!(operator.take_events(), ["InvalidSpec"]);
    object["status"] = operator.status();
    let reported = Arc::new(serde_json::from_value(object).unwrap());
    reconcile(reported, operator.context.clone()).await.unwrap();
    assert_eq!(operator.take_calls(), []);
}
