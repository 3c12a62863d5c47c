//! The leader of the queue: its Lease and the status.

use super::*;
use crate::api::GatewayQueueStatus;
use crate::desired::first_lease;
use crate::observe::lease::ObservedLease;
use gateway_queue_core::lease_state::{HANDOVER, HandoverRecord};

impl Operator {
    /// The pod of the queue is ready.
    fn run_pod(&mut self) {
        let mut running = self.object("deployments");
        running["status"] = json!({"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
        put(&mut self.writers.deployments, running);
    }

    /// The watch returns this Lease. Returns whether it is a change.
    fn observe_lease(&mut self, lease: &Value, now: Instant) -> bool {
        put(&mut self.writers.leases, lease.clone());
        let lease: ObservedLease = serde_json::from_value(lease.clone()).unwrap();
        self.context.applier.caches.lease_observer.saw(&lease, now)
    }

    /// When the Lease expires, if it is not renewed.
    fn next_expiry(&self, now: Instant) -> Option<Instant> {
        let observer = &self.context.applier.caches.lease_observer;
        let (expired, next) = observer.take_expired(now);
        assert_eq!(expired, []);
        next
    }

    /// The Lease of a leader, at its nth renewal.
    fn led(&self, pod: &str, renewal: u32) -> Value {
        let mut lease = self.object("leases");
        lease["metadata"]["resourceVersion"] = json!(format!("{pod}-{renewal}"));
        lease["metadata"]["annotations"] = json!({
            "gatewayqueue.dev/holder": pod,
            "gatewayqueue.dev/token-ref-hash": "none",
            "gatewayqueue.dev/max-concurrency": "1",
        });
        lease["spec"] = json!({
            "holderIdentity": format!("{pod}_1"),
            "leaseDurationSeconds": 15,
            "renewTime": format!("2026-11-23T12:00:{renewal:02}.000000Z"),
        });
        lease
    }

    /// An operator whose queue has had a leader since `start`, and its status.
    async fn granting(start: Instant) -> Self {
        let mut operator = Self::applied().await;
        operator.run_pod();
        let lease = operator.led("my-bot-7d9f", 1);
        assert!(operator.observe_lease(&lease, start));
        operator.reconcile_at(start).await;
        assert_eq!(operator.next_expiry(start), Some(after(start, 17)));
        assert_eq!(operator.take_calls(), status_write());
        operator.expect_granting("my-bot-7d9f");
        operator
    }

    fn expect_granting(&self, leader: &str) {
        assert_eq!(
            (self.ready("status"), self.reason()),
            text("True", "Granting")
        );
        assert_eq!(self.status()["leader"], leader);
    }

    /// Whether the Lease exists and is blank.
    fn has_blank_lease(&self) -> bool {
        self.object("leases")["metadata"]
            .get("annotations")
            .is_none()
    }
}

fn text(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

fn status_write() -> [(Method, String); 1] {
    [(Method::PATCH, STATUS.to_owned())]
}

#[tokio::test]
async fn a_leader_is_one_write_of_the_status_and_its_renewals_are_none() {
    let start = Instant::now();
    let mut operator = Operator::granting(start).await;
    let renewed = [2, 3].map(|version| operator.led("my-bot-7d9f", version));
    // The first one may end a loss that an earlier operator reported.
    assert!(operator.observe_lease(&renewed[0], after(start, 1)));
    assert!(!operator.observe_lease(&renewed[1], after(start, 5)));
    // Not rechecked when the first renewal would have expired, but when the last one does.
    let expiry = operator.next_expiry(after(start, 18));
    assert_eq!(expiry, Some(after(start, 22)));
    let action = operator.reconcile_at(after(start, 21)).await;
    assert_eq!(operator.take_calls(), []);
    assert_eq!(action, Action::await_change());
}

#[tokio::test]
async fn an_expired_leader_is_reported_and_so_is_its_return() {
    let start = Instant::now();
    let mut operator = Operator::granting(start).await;

    let observer = &operator.context.applier.caches.lease_observer;
    let (expired, _) = observer.take_expired(after(start, 17));
    assert_eq!(expired, [("shop".to_owned(), "my-bot".to_owned())]);
    let action = operator.reconcile_at(after(start, 17)).await;
    assert_eq!(operator.take_calls(), status_write());
    let ready = (operator.ready("status"), operator.reason());
    assert_eq!(ready, text("False", "NoLeader"));
    assert_eq!(operator.status().get("leader"), None);
    assert_eq!(action, Action::await_change());

    let again = operator.led("my-bot-7d9f", 2);
    operator.observe_lease(&again, after(start, 60));
    operator.reconcile_at(after(start, 60)).await;
    assert_eq!(operator.take_calls(), status_write());
    operator.expect_granting("my-bot-7d9f");
}

#[tokio::test]
async fn a_pod_that_cannot_reach_the_leader_is_one_event_and_one_write_of_the_status() {
    let start = Instant::now();
    let mut operator = Operator::granting(start).await;
    put(&mut operator.writers.pods, pod("my-bot", json!({})));
    operator.take_events();
    let reachable = |operator: &Operator| {
        let conditions = operator.status()["conditions"].as_array().unwrap().clone();
        let condition = conditions.iter().find(|c| c["type"] == "LeaderReachable");
        condition.unwrap()["status"].clone()
    };
    assert_eq!(reachable(&operator), "True");

    let report = json!({"leader": "my-bot-x2x2_1", "address": "10.0.0.7:9091",
        "since": "2026-11-23T12:00:00Z"});
    let unreachable = |operator: &Operator, renewal| {
        let mut lease = operator.led("my-bot-x2x2", renewal);
        lease["metadata"]["annotations"]["unreachable.gatewayqueue.dev/my-bot-7d9f"] =
            json!(report.to_string());
        lease
    };
    let lease = unreachable(&operator, 2);
    assert!(operator.observe_lease(&lease, after(start, 5)));
    operator.reconcile_at(after(start, 5)).await;
    assert_eq!(operator.take_calls(), status_write());
    assert_eq!(reachable(&operator), "False");
    operator.expect_granting("my-bot-x2x2");
    assert_eq!(operator.take_events(), ["LeaderUnreachable"]);

    // It continues: nothing new to report.
    let lease = unreachable(&operator, 3);
    assert!(!operator.observe_lease(&lease, after(start, 10)));
    operator.reconcile_at(after(start, 10)).await;
    assert_eq!(operator.take_calls(), []);
    assert_eq!(operator.take_events(), [""; 0]);

    let withdrawn = operator.led("my-bot-x2x2", 4);
    assert!(operator.observe_lease(&withdrawn, after(start, 15)));
    operator.reconcile_at(after(start, 15)).await;
    assert_eq!(operator.take_calls(), status_write());
    assert_eq!(reachable(&operator), "True");
    assert_eq!(operator.take_events(), ["LeaderReachable"]);
}

#[tokio::test]
async fn a_handover_is_one_write_of_the_status() {
    let start = Instant::now();
    let mut operator = Operator::granting(start).await;

    let mut free = operator.led("my-bot-7d9f", 2);
    free["spec"]["holderIdentity"] = json!("");
    assert!(operator.observe_lease(&free, after(start, 5)));
    operator.reconcile_at(after(start, 5)).await;
    assert_eq!(operator.take_calls(), []);
    let expiry = operator.next_expiry(after(start, 5));
    assert_eq!(expiry, Some(after(start, 7)));

    let next = operator.led("my-bot-x2x2", 3);
    assert!(operator.observe_lease(&next, after(start, 6)));
    operator.reconcile_at(after(start, 6)).await;
    assert_eq!(operator.take_calls(), status_write());
    operator.expect_granting("my-bot-x2x2");
}

#[tokio::test]
async fn the_lease_of_a_new_queue_says_that_it_never_had_a_leader() {
    let mut operator = Operator::new(json!({}));
    operator.born();
    operator.settle().await;
    let calls = operator.take_calls();
    let posts = calls.iter().filter(|(method, _)| *method == Method::POST);
    let posts: Vec<_> = posts
        .map(|(_, path)| format!("{path}/my-bot-queue"))
        .collect();
    assert_eq!(posts, [LEASE]);
    assert!(!calls.contains(&(Method::PATCH, LEASE.to_owned())));
    let never_led = json!(HandoverRecord::NeverLed.write());
    let handover = |operator: &Operator| {
        let annotations = operator.object("leases")["metadata"]["annotations"].clone();
        annotations.get(HANDOVER).cloned()
    };
    assert_eq!(handover(&operator), Some(never_led.clone()));

    for expected in [Some(never_led), None] {
        // Another client takes the fields over, and the Lease is applied.
        let mut edited = operator.object("leases");
        edited["metadata"]["managedFields"] = json!([]);
        put(&mut operator.writers.leases, edited);
        operator.reconcile().await.unwrap();
        assert_eq!(operator.take_writes(), [LEASE]);
        // Only the queue removes the annotation, and it is not restored.
        assert_eq!(handover(&operator), expected);
        operator.api().objects.get_mut(LEASE).unwrap()["metadata"]["annotations"] = json!({});
    }
}

#[tokio::test]
async fn a_lease_that_may_have_had_a_leader_is_created_blank() {
    let states: [fn(&mut Operator); 5] = [
        // The queue has a status: its Lease was deleted.
        |operator| operator.queue.status = Some(GatewayQueueStatus::default()),
        // It has a pod.
        |operator| put(&mut operator.writers.pods, pod("my-bot", json!({}))),
        // It has a Deployment, so it may have pods.
        |operator| put(&mut operator.writers.deployments, child()),
        // A queue of this name was deleted a moment ago.
        |operator| {
            let owner = Owner::of(&operator.queue).unwrap();
            let mut lease = first_lease(&owner, &operator.queue.spec);
            let spec = json!({"holderIdentity": "my-bot-7d9f_1"});
            lease.spec = serde_json::from_value(spec).unwrap();
            let lease: ObservedLease =
                serde_json::from_value(serde_json::to_value(lease).unwrap()).unwrap();
            let observer = &operator.context.applier.caches.lease_observer;
            observer.saw(&lease, Instant::now());
            observer.lost(&lease);
        },
        // The queue is older than the operator.
        |operator| {
            *operator = Operator::new(json!({}));
            let claims = &operator.context.applier.token_claims;
            claims.saw(&stored(&operator.queue), Instant::now());
        },
    ];
    for (which, state) in states.into_iter().enumerate() {
        let mut operator = Operator::new(json!({}));
        operator.born();
        state(&mut operator);
        operator.reconcile().await.unwrap();
        let calls = operator.take_calls();
        assert!(
            calls.contains(&(Method::PATCH, LEASE.to_owned())),
            "{which}"
        );
        assert!(
            calls.iter().all(|(method, _)| *method != Method::POST),
            "{which}"
        );
        assert!(operator.has_blank_lease(), "{which}");
    }
}

#[tokio::test]
async fn a_lease_of_another_token_is_replaced_by_a_blank_one() {
    let mut operator = Operator::applied().await;
    operator.queue.spec.token_secret_ref =
        serde_json::from_value(json!({"name": "discord"})).unwrap();
    operator.reconcile().await.unwrap();
    assert!(!operator.has(LEASE));
    let gone = json!({"metadata": {"name": "my-bot-queue", "namespace": "shop"}});
    let gone = Event::Delete(serde_json::from_value(gone).unwrap());
    operator.writers.leases.apply_watcher_event(&gone);
    operator.reconcile().await.unwrap();
    assert!(operator.has_blank_lease());
    let labels = &operator.object("leases")["metadata"]["labels"];
    assert_ne!(labels[desired::TOKEN], "none");
}

#[tokio::test]
async fn a_lease_that_another_operator_created_first_is_read_again() {
    let operator = Operator::new(json!({}));
    let owner = Owner::of(&operator.queue).unwrap();
    let requests = &operator.context.applier.requests;
    let create = || requests.create_first_lease(&owner, &operator.queue.spec);
    create().await.unwrap();
    let error = create().await.unwrap_err();
    assert_eq!(error.rejection(), None, "it is retried: {error}");
}

#[tokio::test]
async fn the_disruption_budget_is_deleted_with_one_replica() {
    // Without the label, no watch returns it.
    for is_observed in [true, false] {
        let mut operator = Operator::applied().await;
        operator.queue.spec.replicas = 2;
        operator.reconcile().await.unwrap();
        assert!(operator.take_writes().contains(&BUDGET.to_owned()));
        if is_observed {
            let budget = operator.object("poddisruptionbudgets");
            operator.put_metadata(Kind::PodDisruptionBudget, budget);
        }

        operator.queue.spec.replicas = 1;
        operator.reconcile().await.unwrap();
        let deleted = (Method::DELETE, BUDGET.to_owned());
        assert!(operator.take_calls().contains(&deleted));
        assert!(!operator.has(BUDGET));
        // While the watch has not returned the deletion, it is repeated, which succeeds.
        operator.reconcile().await.unwrap();
        assert_eq!(operator.take_calls().contains(&deleted), is_observed);
    }
}

#[tokio::test]
async fn a_foreign_disruption_budget_is_left_alone() {
    let mut operator = Operator::applied().await;
    let foreign = operator.create_foreign(BUDGET);
    operator.put_metadata(Kind::PodDisruptionBudget, foreign);
    operator.reconcile().await.unwrap();
    assert_eq!(operator.take_calls(), []);
}
