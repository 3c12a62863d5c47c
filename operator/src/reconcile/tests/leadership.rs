//! The leader of the queue: its Lease and the status.

use super::*;
use crate::api::GatewayQueueStatus;
use crate::desired::first_lease;
use gateway_queue_core::lease_state::{HANDOVER, HandoverRecord};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/shop/leases";
const BUDGET: &str = "/apis/policy/v1/namespaces/shop/poddisruptionbudgets/my-bot";

/// The pod of the queue is ready.
fn run(server: &Server, writers: &mut Writers) {
    let mut running = server.object("deployments");
    running["status"] = json!({"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
    put(&mut writers.deployments, running);
}

/// The watch returns this Lease. Returns whether it is a change.
fn bring(context: &Context, writers: &mut Writers, lease: &Value, now: Instant) -> bool {
    let lease: k8s_openapi::api::coordination::v1::Lease =
        serde_json::from_value(lease.clone()).unwrap();
    writers
        .leases
        .apply_watcher_event(&Event::Apply(lease.clone()));
    context.applier.caches.lease_observer.saw(&lease, now)
}

/// The Lease of a leader, at its nth renewal.
fn led(server: &Server, pod: &str, renewal: u32) -> Value {
    let mut lease = server.object("leases");
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

/// A queue with a leader since `start`, and its status.
async fn granting(server: &Server, start: Instant) -> (Arc<GatewayQueue>, Arc<Context>, Writers) {
    let (queue, context, mut writers) = applied(server).await;
    run(server, &mut writers);
    let lease = led(server, "my-bot-7d9f", 1);
    bring(&context, &mut writers, &lease, start);
    context.reconcile(&queue, start).await.unwrap();
    server.take_calls();
    (reported(&queue, server), context, writers)
}

fn ready(server: &Server) -> (Value, Value) {
    let condition = &server.status()["conditions"][0];
    (condition["status"].clone(), condition["reason"].clone())
}

fn status_write() -> [(Method, String); 1] {
    [(Method::PATCH, format!("{PREFIX}/status"))]
}

fn within(seconds: u64) -> Action {
    Action::requeue(Duration::from_secs(seconds))
}

#[tokio::test]
async fn a_leader_is_one_write_of_the_status_and_its_renewals_are_none() {
    let server = Server::default();
    let (queue, context, mut writers) = applied(&server).await;
    run(&server, &mut writers);
    let start = Instant::now();
    assert!(bring(
        &context,
        &mut writers,
        &led(&server, "my-bot-7d9f", 1),
        start
    ));
    server.take_calls();
    let action = context.reconcile(&queue, start).await.unwrap();
    assert_eq!(server.take_calls(), status_write());
    assert_eq!(ready(&server), (json!("True"), json!("Granting")));
    assert_eq!(server.status()["leader"], "my-bot-7d9f");
    assert_eq!(action, within(17));

    let queue = reported(&queue, &server);
    let renewed = led(&server, "my-bot-7d9f", 2);
    assert!(!bring(&context, &mut writers, &renewed, after(start, 5)));
    // Rechecked when the first renewal would have expired.
    let action = context.reconcile(&queue, after(start, 17)).await.unwrap();
    assert_eq!(server.take_calls(), []);
    assert_eq!(action, within(5));
}

#[tokio::test]
async fn an_expired_leader_is_reported_and_so_is_its_return() {
    let server = Server::default();
    let start = Instant::now();
    let (queue, context, mut writers) = granting(&server, start).await;

    let action = context.reconcile(&queue, after(start, 17)).await.unwrap();
    assert_eq!(server.take_calls(), status_write());
    assert_eq!(ready(&server), (json!("False"), json!("NoLeader")));
    assert_eq!(server.status().get("leader"), None);
    assert_eq!(action, Action::await_change());

    let queue = reported(&queue, &server);
    let again = led(&server, "my-bot-7d9f", 2);
    bring(&context, &mut writers, &again, after(start, 60));
    context.reconcile(&queue, after(start, 60)).await.unwrap();
    assert_eq!(server.take_calls(), status_write());
    assert_eq!(ready(&server), (json!("True"), json!("Granting")));
}

#[tokio::test]
async fn a_pod_that_cannot_reach_the_leader_is_one_event_and_one_write_of_the_status() {
    let server = Server::default();
    let start = Instant::now();
    let (queue, context, mut writers) = granting(&server, start).await;
    put(&mut writers.pods, pod("my-bot", json!({})));
    server.take_events();
    let reachable = |server: &Server| {
        let conditions = server.status()["conditions"].as_array().unwrap().clone();
        let condition = conditions.iter().find(|c| c["type"] == "LeaderReachable");
        condition.unwrap()["status"].clone()
    };
    assert_eq!(reachable(&server), "True");

    let renewed = |renewal| {
        let mut lease = led(&server, "my-bot-x2x2", renewal);
        let report = json!({"leader": "my-bot-x2x2_1", "address": "10.0.0.7:9091",
            "since": "2026-11-23T12:00:00Z"});
        lease["metadata"]["annotations"]["unreachable.gatewayqueue.dev/my-bot-7d9f"] =
            json!(report.to_string());
        lease
    };
    assert!(bring(&context, &mut writers, &renewed(2), after(start, 5)));
    context.reconcile(&queue, after(start, 5)).await.unwrap();
    assert_eq!(server.take_calls(), status_write());
    assert_eq!(reachable(&server), "False");
    assert_eq!(ready(&server), (json!("True"), json!("Granting")));
    assert_eq!(server.take_events(), ["LeaderUnreachable"]);

    // It continues: nothing new to report.
    let queue = reported(&queue, &server);
    assert!(!bring(
        &context,
        &mut writers,
        &renewed(3),
        after(start, 10)
    ));
    context.reconcile(&queue, after(start, 10)).await.unwrap();
    assert_eq!(server.take_calls(), []);
    assert_eq!(server.take_events(), [""; 0]);

    let withdrawn = led(&server, "my-bot-x2x2", 4);
    assert!(bring(&context, &mut writers, &withdrawn, after(start, 15)));
    context.reconcile(&queue, after(start, 15)).await.unwrap();
    assert_eq!(server.take_calls(), status_write());
    assert_eq!(reachable(&server), "True");
    assert_eq!(server.take_events(), ["LeaderReachable"]);
}

#[tokio::test]
async fn a_handover_is_one_write_of_the_status() {
    let server = Server::default();
    let start = Instant::now();
    let (queue, context, mut writers) = granting(&server, start).await;

    let mut free = led(&server, "my-bot-7d9f", 2);
    free["spec"]["holderIdentity"] = json!("");
    assert!(bring(&context, &mut writers, &free, after(start, 5)));
    let action = context.reconcile(&queue, after(start, 5)).await.unwrap();
    assert_eq!(server.take_calls(), []);
    assert_eq!(action, within(2));

    let next = led(&server, "my-bot-x2x2", 3);
    assert!(bring(&context, &mut writers, &next, after(start, 6)));
    context.reconcile(&queue, after(start, 6)).await.unwrap();
    assert_eq!(server.take_calls(), status_write());
    assert_eq!(server.status()["leader"], "my-bot-x2x2");
    assert_eq!(ready(&server), (json!("True"), json!("Granting")));
}

#[tokio::test]
async fn the_lease_of_a_new_queue_says_that_it_never_had_a_leader() {
    let server = Server::default();
    let (queue, context, mut writers) = applied(&server).await;
    let calls = server.take_calls();
    let created: Vec<_> = calls.iter().filter(|(m, _)| *m == Method::POST).collect();
    assert_eq!(created, [&(Method::POST, LEASES.to_owned())]);
    let lease = format!("{LEASES}/my-bot");
    assert!(!calls.contains(&(Method::PATCH, lease.clone())));
    let released = |server: &Server| {
        let annotations = server.object("leases")["metadata"]["annotations"].clone();
        annotations.get(HANDOVER).cloned()
    };
    assert_eq!(
        released(&server),
        Some(json!(HandoverRecord::NeverLed.write()))
    );

    // Another client takes the fields over, and the Lease is applied.
    let mut meddle = |server: &Server| {
        let mut edited = server.object("leases");
        edited["metadata"]["managedFields"] = json!([]);
        put(&mut writers.leases, edited);
    };
    for expected in [Some(json!(HandoverRecord::NeverLed.write())), None] {
        meddle(&server);
        reconcile(Arc::clone(&queue), Arc::clone(&context))
            .await
            .unwrap();
        assert_eq!(server.take_writes(), [lease.as_str()]);
        // Only the queue removes the annotation, and it is not restored.
        assert_eq!(released(&server), expected);
        let mut objects = server.objects.lock().unwrap();
        let annotations = &mut objects.get_mut(&lease).unwrap()["metadata"]["annotations"];
        *annotations = json!({});
    }
}

/// The calls that create a missing Lease.
async fn creates(server: &Server, its: GatewayQueue, context: Arc<Context>) -> Vec<Method> {
    born(&context, &queue(json!({})));
    reconcile(Arc::new(its), context).await.unwrap();
    let calls = server.take_calls().into_iter();
    calls
        .filter(|(method, path)| path.starts_with(LEASES) && *method != Method::GET)
        .map(|(method, _)| method)
        .collect()
}

#[tokio::test]
async fn a_lease_that_may_have_had_a_leader_is_created_blank() {
    let blank = [Method::PATCH];
    // The queue has a status: its Lease was deleted.
    let server = Server::default();
    let (fresh, _writers) = context(&server);
    let mut known = queue(json!({}));
    known.status = Some(GatewayQueueStatus::default());
    assert_eq!(creates(&server, known, fresh).await, blank);
    assert_eq!(server.object("leases")["metadata"].get("annotations"), None);

    // It has a pod.
    let server = Server::default();
    let (fresh, mut writers) = context(&server);
    put(&mut writers.pods, pod("my-bot", json!({})));
    assert_eq!(creates(&server, queue(json!({})), fresh).await, blank);

    // It has a Deployment, so it may have pods.
    let server = Server::default();
    applied(&server).await;
    let lease = format!("{LEASES}/my-bot");
    server.objects.lock().unwrap().remove(&lease);
    server.take_calls();
    let (fresh, _writers) = context(&server);
    assert_eq!(creates(&server, queue(json!({})), fresh).await, blank);

    // A queue of this name was deleted a moment ago.
    let server = Server::default();
    let (fresh, _writers) = context(&server);
    let owner = Owner::of(&queue(json!({}))).unwrap();
    let mut lease = first_lease(&owner, &queue(json!({})).spec);
    lease.spec = serde_json::from_value(json!({"holderIdentity": "my-bot-7d9f_1"})).unwrap();
    fresh
        .applier
        .caches
        .lease_observer
        .saw(&lease, Instant::now());
    fresh.applier.caches.lease_observer.lost(&lease);
    assert_eq!(creates(&server, queue(json!({})), fresh).await, blank);
}

#[tokio::test]
async fn a_queue_older_than_the_operator_may_have_had_a_leader() {
    let server = Server::default();
    let (context, _writers) = context(&server);
    let queue = queue(json!({}));
    context
        .applier
        .token_claims
        .saw(&stored(&queue), Instant::now());
    reconcile(Arc::new(queue), context).await.unwrap();
    assert_eq!(server.object("leases")["metadata"].get("annotations"), None);
}

#[tokio::test]
async fn a_lease_of_another_token_is_replaced_by_a_blank_one() {
    let server = Server::default();
    let (queue, context, mut writers) = applied(&server).await;
    let mut other = (*queue).clone();
    other.spec.token_secret_ref = serde_json::from_value(json!({"name": "discord"})).unwrap();
    reconcile(Arc::new(other.clone()), Arc::clone(&context))
        .await
        .unwrap();
    let lease = format!("{LEASES}/my-bot");
    assert!(!server.objects.lock().unwrap().contains_key(&lease));
    let gone = serde_json::from_value(json!({"metadata": {"name": "my-bot", "namespace": "shop"}}));
    writers
        .leases
        .apply_watcher_event(&Event::Delete(gone.unwrap()));
    let other = reported(&other, &server);
    reconcile(other, Arc::clone(&context)).await.unwrap();
    let made = server.object("leases");
    assert_eq!(made["metadata"].get("annotations"), None);
    assert_ne!(made["metadata"]["labels"][desired::TOKEN], "none");
}

#[tokio::test]
async fn a_lease_that_another_operator_created_first_is_read_again() {
    let server = Server::default();
    let (first, _writers) = context(&server);
    let owner = Owner::of(&queue(json!({}))).unwrap();
    let spec = queue(json!({})).spec;
    let create = || first.applier.requests.create_first_lease(&owner, &spec);
    create().await.unwrap();
    let error = create().await.unwrap_err();
    assert_eq!(error.rejection(), None, "it is retried: {error}");
}

#[tokio::test]
async fn the_disruption_budget_is_deleted_with_one_replica() {
    let server = Server::default();
    let (queue, context, mut writers) = applied(&server).await;
    server.take_calls();
    let scaled = |replicas| {
        let mut queue = reported(&queue, &server);
        Arc::make_mut(&mut queue).spec.replicas = replicas;
        queue
    };
    context.reconcile(&scaled(2), Instant::now()).await.unwrap();
    assert!(server.take_writes().contains(&BUDGET.to_owned()));
    let budget = server.object("poddisruptionbudgets");
    put_metadata(&mut writers, Kind::PodDisruptionBudget, budget);

    context.reconcile(&scaled(1), Instant::now()).await.unwrap();
    let deleted = (Method::DELETE, BUDGET.to_owned());
    assert!(server.take_calls().contains(&deleted));
    assert!(!server.objects.lock().unwrap().contains_key(BUDGET));
    // The watch has not returned it yet: deleting a missing object succeeds.
    context.reconcile(&scaled(1), Instant::now()).await.unwrap();
    assert!(server.take_calls().contains(&deleted));
}

/// Without the label, no watch returns it.
#[tokio::test]
async fn a_disruption_budget_without_the_label_is_deleted_once() {
    let server = Server::default();
    let (queue, context, _writers) = applied(&server).await;
    let scaled = |replicas| {
        let mut queue = reported(&queue, &server);
        Arc::make_mut(&mut queue).spec.replicas = replicas;
        queue
    };
    context.reconcile(&scaled(2), Instant::now()).await.unwrap();
    context.reconcile(&scaled(1), Instant::now()).await.unwrap();
    assert!(!server.objects.lock().unwrap().contains_key(BUDGET));
    server.take_calls();
    context.reconcile(&scaled(1), Instant::now()).await.unwrap();
    let calls = server.take_calls();
    assert!(calls.iter().all(|(_, path)| path != BUDGET), "{calls:?}");
}

#[tokio::test]
async fn a_foreign_disruption_budget_is_left_alone() {
    let server = Server::default();
    let (queue, context, mut writers) = applied(&server).await;
    let theirs = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": "my-bot", "namespace": "shop", "uid": "0666"}});
    put_metadata(&mut writers, Kind::PodDisruptionBudget, theirs);
    server.take_calls();
    context.reconcile(&queue, Instant::now()).await.unwrap();
    assert_eq!(server.take_calls(), []);
}
