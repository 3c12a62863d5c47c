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
    context.tokens.saw(&stored(&elder()));
    context.tokens.saw(&stored(&young));
    let done = reconcile(Arc::new(young.clone()), Arc::clone(&context)).await;
    assert_eq!(done.unwrap(), Action::await_change());
    assert_eq!(reason(&server), "TokenShared");
    assert_eq!(server.object("deployments")["spec"]["replicas"], 0);
    assert!(!server.objects.lock().unwrap().contains_key(LEASE));
    assert_eq!(server.take_notes(), ["TokenShared"]);

    let again = context.tokens.lost(&stored(&elder()));
    assert_eq!(again, [("shop".to_owned(), "my-bot".to_owned())]);
    let deployment = serde_json::from_value(server.object("deployments")).unwrap();
    writers
        .deployments
        .apply_watcher_event(&Event::Apply(deployment));
    reconcile(told(&young, &server), context).await.unwrap();
    assert_eq!(server.object("deployments")["spec"]["replicas"], 1);
    // Blank: the elder may have granted a moment ago.
    let lease = server.object("leases");
    assert_eq!(lease["metadata"].get("annotations"), None);
}

#[tokio::test]
async fn a_lease_is_taken_from_a_queue_that_has_to_stand_down() {
    let server = Server::default();
    let (queue, context, _writers) = applied(&server).await;
    let mut young = (*queue).clone();
    young.spec.token_secret_ref = elder().spec.token_secret_ref;
    context.tokens.saw(&stored(&elder()));
    context.tokens.saw(&stored(&young));
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
    context.tokens.saw(&stored(&older));
    context.tokens.saw(&stored(&younger));
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
    assert_eq!(server.take_notes(), ["ChildPutBack"; 2]);
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
