//! What becomes of two GatewayQueues that name one token, of a child that
//! somebody keeps changing, and of a GatewayQueue that cannot be read.

use super::*;

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/shop/leases/my-bot";

fn elder() -> GatewayQueue {
    let mut elder = queue(json!({"tokenSecretRef": {"name": "discord"}}));
    elder.metadata.name = Some("elder".to_owned());
    elder.metadata.uid = Some("0000".to_owned());
    elder
}

fn reason(server: &Server) -> Value {
    server.status()["conditions"][0]["reason"].clone()
}

#[tokio::test]
async fn the_younger_of_two_that_share_a_token_has_no_pods_until_the_elder_is_gone() {
    let server = Server::default();
    let (context, mut writers) = context(&server);
    let young = queue(json!({"tokenSecretRef": {"name": "discord"}}));
    context.token_claims.saw(&stored(&elder()), Instant::now());
    context.token_claims.saw(&stored(&young), Instant::now());
    let done = reconcile(Arc::new(young.clone()), Arc::clone(&context)).await;
    assert_eq!(done.unwrap(), Action::await_change());
    assert_eq!(reason(&server), "TokenShared");
    assert_eq!(server.object("deployments")["spec"]["replicas"], 0);
    assert!(!server.objects.lock().unwrap().contains_key(LEASE));
    assert_eq!(server.take_notes(), ["TokenShared"]);

    let again = context.token_claims.lost(&stored(&elder()), Instant::now());
    assert_eq!(again, [("shop".to_owned(), "my-bot".to_owned())]);
    let deployment = serde_json::from_value(server.object("deployments")).unwrap();
    writers
        .deployments
        .apply_watcher_event(&Event::Apply(deployment));
    reconcile(reported(&young, &server), context).await.unwrap();
    assert_eq!(server.object("deployments")["spec"]["replicas"], 1);
    // Blank: the elder may have granted a moment ago.
    let lease = server.object("leases");
    assert_eq!(lease["metadata"].get("annotations"), None);
}

/// The label of a pod that grants by the token of the elder.
fn by_its_token() -> Value {
    let mark = desired::token_mark(&elder().spec.token_secret_ref.unwrap());
    json!({ desired::TOKEN: mark })
}

fn replicas(server: &Server) -> Value {
    server.object("deployments")["spec"]["replicas"].clone()
}

#[tokio::test]
async fn a_queue_waits_until_the_pods_of_one_that_gave_the_token_up_are_gone() {
    let server = Server::default();
    let (context, mut writers) = context(&server);
    let heir = queue(json!({"tokenSecretRef": {"name": "discord"}}));
    born(&context, &heir);
    // Its GatewayQueue is deleted, or names another token by now.
    let left = pod("gone", by_its_token());
    put(&mut writers.pods, left.clone());
    reconcile(Arc::new(heir.clone()), Arc::clone(&context))
        .await
        .unwrap();
    assert_eq!(
        (replicas(&server), reason(&server)),
        (json!(0), json!("TokenShared"))
    );
    let said = server.status()["conditions"][0]["message"].clone();
    assert!(
        said.as_str()
            .unwrap()
            .contains("Pods of the GatewayQueue gone still use")
    );
    assert!(!server.objects.lock().unwrap().contains_key(LEASE));

    let left = serde_json::from_value(left).unwrap();
    writers.pods.apply_watcher_event(&Event::Delete(left));
    put(&mut writers.deployments, server.object("deployments"));
    reconcile(reported(&heir, &server), context).await.unwrap();
    assert_eq!(replicas(&server), 1);
    // Blank: one of them may have granted a moment ago.
    assert_eq!(server.object("leases")["metadata"].get("annotations"), None);
}

#[tokio::test]
async fn a_queue_waits_for_a_deployment_that_will_have_pods_and_not_for_one_that_has_ended() {
    for (wanted, there, waits) in [(1, 0, true), (0, 1, true), (0, 0, false)] {
        let server = Server::default();
        let (context, mut writers) = context(&server);
        let of_another = json!({
            "metadata": {"name": "gone", "namespace": "shop"},
            "spec": {"replicas": wanted, "selector": {}, "template": {
                "metadata": {"labels": by_its_token()},
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
async fn a_queue_that_has_the_token_keeps_its_pods_whoever_else_has_some() {
    let server = Server::default();
    let (context, mut writers) = context(&server);
    let queue = queue(json!({"tokenSecretRef": {"name": "discord"}}));
    born(&context, &queue);
    reconcile(Arc::new(queue.clone()), Arc::clone(&context))
        .await
        .unwrap();
    put(&mut writers.deployments, server.object("deployments"));
    put(&mut writers.pods, pod("younger", by_its_token()));
    reconcile(reported(&queue, &server), context).await.unwrap();
    assert_eq!(replicas(&server), 1);
    assert_ne!(reason(&server), "TokenShared");
}

#[tokio::test]
async fn a_queue_stands_down_also_when_a_stranger_has_one_of_its_names() {
    let server = Server::default();
    let (queue, context, mut writers) = applied(&server).await;
    let budget = "/apis/policy/v1/namespaces/shop/poddisruptionbudgets/my-bot";
    let strangers = json!({"metadata": {"name": "my-bot", "namespace": "shop", "uid": "0666"}});
    server
        .objects
        .lock()
        .unwrap()
        .insert(budget.to_owned(), strangers);
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
    let now = Instant::now();
    context.token_claims.saw(&stored(&elder()), now);
    context.token_claims.saw(&stored(&scaled), now);
    reconcile(Arc::new(scaled), context).await.unwrap();
    assert_eq!(replicas(&server), 0);
    assert!(!server.objects.lock().unwrap().contains_key(LEASE));
}

#[tokio::test]
async fn a_lease_is_taken_from_a_queue_that_has_to_stand_down() {
    let server = Server::default();
    let (queue, context, _writers) = applied(&server).await;
    let mut young = (*queue).clone();
    young.spec.token_secret_ref = elder().spec.token_secret_ref;
    context.token_claims.saw(&stored(&elder()), Instant::now());
    context.token_claims.saw(&stored(&young), Instant::now());
    reconcile(Arc::new(young), context).await.unwrap();
    assert!(!server.objects.lock().unwrap().contains_key(LEASE));
    assert_eq!(server.object("deployments")["spec"]["replicas"], 0);
}

#[tokio::test]
async fn of_two_that_are_made_at_the_same_time_neither_starts_at_once() {
    let server = Server::default();
    let (context, _writers) = context(&server);
    let mut younger = elder();
    younger.metadata.uid = Some("0002".to_owned());
    let older = queue(json!({"tokenSecretRef": {"name": "discord"}}));
    context.token_claims.saw(&stored(&older), Instant::now());
    context.token_claims.saw(&stored(&younger), Instant::now());
    reconcile(Arc::new(older), context).await.unwrap();
    assert_eq!(server.object("deployments")["spec"]["replicas"], 1);
    let lease = server.object("leases");
    assert_eq!(lease["metadata"].get("annotations"), None);
}

#[tokio::test]
async fn a_child_that_somebody_keeps_changing_is_put_back_later_and_later() {
    let server = Server::default();
    let (queue, context, mut writers) = applied(&server).await;
    server.take_notes();
    let mut waits = Vec::new();
    for _ in 0..4 {
        let mut edited = server.object("services");
        edited["metadata"]["managedFields"] = json!([]);
        let edited = serde_json::from_value(edited).unwrap();
        writers.services.apply_watcher_event(&Event::Apply(edited));
        server.take_calls();
        let action = reconcile(Arc::clone(&queue), Arc::clone(&context)).await;
        waits.push((
            server.take_writes().len(),
            action.unwrap() != Action::await_change(),
        ));
    }
    let (put_back, left) = ((1, false), (0, true));
    assert_eq!(waits, [put_back, put_back, left, left]);
    assert_eq!(server.take_notes(), ["ChildReverted"; 2]);
}

#[tokio::test]
async fn a_child_that_was_deleted_is_told_also_by_an_operator_that_did_not_make_it() {
    let server = Server::default();
    let (queue, _before, _) = applied(&server).await;
    let service = "/api/v1/namespaces/shop/services/my-bot";
    server.objects.lock().unwrap().remove(service);
    let (restarted, mut writers) = context(&server);
    put(&mut writers.deployments, server.object("deployments"));
    reconcile(queue, restarted).await.unwrap();
    assert_eq!(server.take_notes(), ["ChildReverted"]);
    // What was refused before was never there.
    let server = Server::default();
    *server.refuse.lock().unwrap() = Some(("/services/", 403, 1));
    let (context, _writers) = context(&server);
    let new = super::queue(json!({}));
    reconcile(Arc::new(new.clone()), Arc::clone(&context))
        .await
        .unwrap_err();
    server.take_notes();
    reconcile(reported(&new, &server), context).await.unwrap();
    assert_eq!(server.take_notes(), ["RolloutInProgress"]);
}

#[tokio::test]
async fn a_queue_that_cannot_be_read_says_so_once_and_is_not_touched() {
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
    assert_eq!(server.take_notes(), ["InvalidSpec"]);
    let done = super::super::reconcile(stored(server.status()), context).await;
    done.unwrap();
    assert_eq!(server.take_calls(), []);
}
