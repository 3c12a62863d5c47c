//! Two GatewayQueues that name one token, children that another client changes, and
//! GatewayQueues that cannot be read.

use super::*;

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/shop/leases/my-bot";

fn elder() -> GatewayQueue {
    let mut elder = queue(json!({"tokenSecretRef": {"name": "discord"}}));
    elder.metadata.name = Some("elder".to_owned());
    elder.metadata.uid = Some("0000".to_owned());
    elder
}

/// Lets the operator see two GatewayQueues that name one token.
fn claim(context: &Context, queues: [&GatewayQueue; 2]) {
    for queue in queues {
        let claims = &context.applier.token_claims;
        claims.saw(&stored(queue), Instant::now());
    }
}

#[tokio::test]
async fn the_younger_of_two_queues_with_one_token_has_no_pods_until_the_elder_is_deleted() {
    let server = Server::default();
    let (context, mut writers) = context(&server);
    let young = queue(json!({"tokenSecretRef": {"name": "discord"}}));
    claim(&context, [&elder(), &young]);
    let done = reconcile(Arc::new(young.clone()), Arc::clone(&context)).await;
    assert_eq!(done.unwrap(), Action::await_change());
    assert_eq!(reason(&server), "TokenShared");
    assert_eq!(server.object("deployments")["spec"]["replicas"], 0);
    assert!(!server.objects.lock().unwrap().contains_key(LEASE));
    assert_eq!(server.take_events(), ["TokenShared"]);

    let again = context
        .applier
        .token_claims
        .lost(&stored(&elder()), Instant::now());
    assert_eq!(again, [("shop".to_owned(), "my-bot".to_owned())]);
    let deployment = serde_json::from_value(server.object("deployments")).unwrap();
    writers
        .deployments
        .apply_watcher_event(&Event::Apply(deployment));
    reconcile(reported(&young, &server), context).await.unwrap();
    assert_eq!(server.object("deployments")["spec"]["replicas"], 1);
    // Blank, because the elder may have granted a moment ago.
    let lease = server.object("leases");
    assert_eq!(lease["metadata"].get("annotations"), None);
}

/// The label of a pod that grants with the token of the elder.
fn token_label() -> Value {
    let hash = desired::token_hash(&elder().spec.token_secret_ref.unwrap());
    json!({ desired::TOKEN: hash })
}

fn replicas(server: &Server) -> Value {
    server.object("deployments")["spec"]["replicas"].clone()
}

#[tokio::test]
async fn a_queue_waits_for_the_pods_of_one_that_gave_up_the_token() {
    let server = Server::default();
    let (context, mut writers) = context(&server);
    let heir = queue(json!({"tokenSecretRef": {"name": "discord"}}));
    born(&context, &heir);
    // Its GatewayQueue was deleted, or names another token now.
    let left = pod("gone", token_label());
    put(&mut writers.pods, left.clone());
    reconcile(Arc::new(heir.clone()), Arc::clone(&context))
        .await
        .unwrap();
    assert_eq!(
        (replicas(&server), reason(&server)),
        (json!(0), json!("TokenShared"))
    );
    let message = server.status()["conditions"][0]["message"].clone();
    assert!(
        message
            .as_str()
            .unwrap()
            .contains("Pods of GatewayQueue gone still use")
    );
    assert!(!server.objects.lock().unwrap().contains_key(LEASE));

    let left = serde_json::from_value(left).unwrap();
    writers.pods.apply_watcher_event(&Event::Delete(left));
    put(&mut writers.deployments, server.object("deployments"));
    reconcile(reported(&heir, &server), context).await.unwrap();
    assert_eq!(replicas(&server), 1);
    // Blank, because one of them may have granted a moment ago.
    assert_eq!(server.object("leases")["metadata"].get("annotations"), None);
}

#[tokio::test]
async fn a_queue_waits_for_a_deployment_with_pods_and_not_for_one_without() {
    for (wanted, there, waits) in [(1, 0, true), (0, 1, true), (0, 0, false)] {
        let server = Server::default();
        let (context, mut writers) = context(&server);
        let of_another = json!({
            "metadata": {"name": "gone", "namespace": "shop"},
            "spec": {"replicas": wanted, "selector": {}, "template": {
                "metadata": {"labels": token_label()},
            }},
            "status": {"replicas": there},
        });
        put(&mut writers.deployments, of_another);
        let heir = queue(json!({"tokenSecretRef": {"name": "discord"}}));
        reconcile(Arc::new(heir), context).await.unwrap();
        assert_eq!(replicas(&server) == 0, waits, "{wanted} {there}");
    }
}

#[tokio::test]
async fn a_queue_with_the_token_keeps_its_pods_when_another_has_some() {
    let server = Server::default();
    let (context, mut writers) = context(&server);
    let queue = queue(json!({"tokenSecretRef": {"name": "discord"}}));
    born(&context, &queue);
    reconcile(Arc::new(queue.clone()), Arc::clone(&context))
        .await
        .unwrap();
    put(&mut writers.deployments, server.object("deployments"));
    put(&mut writers.pods, pod("younger", token_label()));
    reconcile(reported(&queue, &server), context).await.unwrap();
    assert_eq!(replicas(&server), 1);
    assert_ne!(reason(&server), "TokenShared");
}

#[tokio::test]
async fn a_queue_gives_up_its_token_even_if_a_name_is_taken() {
    let server = Server::default();
    let (queue, context, mut writers) = applied(&server).await;
    let budget = "/apis/policy/v1/namespaces/shop/poddisruptionbudgets/my-bot";
    let foreign = json!({"metadata": {"name": "my-bot", "namespace": "shop", "uid": "0666"}});
    server
        .objects
        .lock()
        .unwrap()
        .insert(budget.to_owned(), foreign);
    put(&mut writers.deployments, server.object("deployments"));
    let mut scaled = (*queue).clone();
    scaled.spec.replicas = 2;
    reconcile(Arc::new(scaled.clone()), Arc::clone(&context))
        .await
        .unwrap();
    assert_eq!(
        (replicas(&server), reason(&server)),
        (json!(2), json!("NameTaken"))
    );
    scaled.spec.token_secret_ref = elder().spec.token_secret_ref;
    claim(&context, [&elder(), &scaled]);
    reconcile(Arc::new(scaled), context).await.unwrap();
    assert_eq!(replicas(&server), 0);
    assert!(!server.objects.lock().unwrap().contains_key(LEASE));
}

#[tokio::test]
async fn the_lease_of_a_queue_that_gives_up_its_token_is_deleted() {
    let server = Server::default();
    let (queue, context, _writers) = applied(&server).await;
    let mut young = (*queue).clone();
    young.spec.token_secret_ref = elder().spec.token_secret_ref;
    claim(&context, [&elder(), &young]);
    reconcile(Arc::new(young), context).await.unwrap();
    assert!(!server.objects.lock().unwrap().contains_key(LEASE));
    assert_eq!(server.object("deployments")["spec"]["replicas"], 0);
}

#[tokio::test]
async fn of_two_queues_created_at_the_same_time_neither_starts_immediately() {
    let server = Server::default();
    let (context, _writers) = context(&server);
    let mut younger = elder();
    younger.metadata.uid = Some("0002".to_owned());
    let older = queue(json!({"tokenSecretRef": {"name": "discord"}}));
    claim(&context, [&older, &younger]);
    reconcile(Arc::new(older), context).await.unwrap();
    assert_eq!(server.object("deployments")["spec"]["replicas"], 1);
    let lease = server.object("leases");
    assert_eq!(lease["metadata"].get("annotations"), None);
}

#[tokio::test]
async fn a_child_that_keeps_changing_is_reverted_with_growing_pauses() {
    let server = Server::default();
    let (queue, context, mut writers) = applied(&server).await;
    server.take_events();
    let mut waits = Vec::new();
    for _ in 0..4 {
        let edited = edit(&server, "services");
        put_metadata(&mut writers, Kind::Service, edited);
        server.take_calls();
        let action = reconcile(Arc::clone(&queue), Arc::clone(&context)).await;
        waits.push((
            server.take_writes().len(),
            action.unwrap() != Action::await_change(),
        ));
    }
    let (reverted, left) = ((1, false), (0, true));
    assert_eq!(waits, [reverted, reverted, left, left]);
    assert_eq!(server.take_events(), ["ChildReverted"; 2]);
}

#[tokio::test]
async fn a_deleted_child_is_reported_even_by_a_restarted_operator() {
    let server = Server::default();
    let (queue, _before, _) = applied(&server).await;
    let service = "/api/v1/namespaces/shop/services/my-bot";
    server.objects.lock().unwrap().remove(service);
    let (restarted, mut writers) = context(&server);
    put(&mut writers.deployments, server.object("deployments"));
    reconcile(queue, restarted).await.unwrap();
    assert_eq!(server.take_events(), ["ChildReverted"]);
    // A child that was rejected before never existed.
    let server = Server::default();
    *server.refuse.lock().unwrap() = Some(("/services/", 403, 1));
    let (context, _writers) = context(&server);
    let new = super::queue(json!({}));
    reconcile(Arc::new(new.clone()), Arc::clone(&context))
        .await
        .unwrap_err();
    server.take_events();
    reconcile(reported(&new, &server), context).await.unwrap();
    assert_eq!(server.take_events(), ["RolloutInProgress"]);
}

#[tokio::test]
async fn an_unreadable_queue_is_reported_once_and_not_changed() {
    let server = Server::default();
    let (context, _writers) = context(&server);
    let metadata = json!({"name": "my-bot", "namespace": "shop", "uid": "0001", "generation": 7});
    let stored = |status: Value| {
        let object = json!({"metadata": metadata, "spec": {"port": "x"}, "status": status});
        Arc::new(serde_json::from_value::<Stored>(object).unwrap())
    };
    let done = super::super::reconcile(stored(Value::Null), Arc::clone(&context)).await;
    done.unwrap();
    assert_eq!(server.take_writes(), [format!("{PREFIX}/status")]);
    assert_eq!(reason(&server), "InvalidSpec");
    assert_eq!(server.take_events(), ["InvalidSpec"]);
    let done = super::super::reconcile(stored(server.status()), context).await;
    done.unwrap();
    assert_eq!(server.take_calls(), []);
}
