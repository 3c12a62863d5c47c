//! Existing children: left by a GatewayQueue that was deleted without them, or created by an
//! earlier version of the operator.

use super::*;

/// Changes every child.
fn change(server: &Server, change: impl Fn(&str, &mut Value)) {
    for (path, object) in server.objects.lock().unwrap().iter_mut() {
        if !path.contains("/gatewayqueues/") {
            change(path, object);
        }
    }
}

/// As `kubectl delete --cascade=orphan` leaves them.
fn orphan(server: &Server) {
    server
        .objects
        .lock()
        .unwrap()
        .remove(&format!("{PREFIX}/status"));
    change(server, |_, object| {
        object["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("ownerReferences");
        let fields = &mut object["metadata"]["managedFields"][0]["fieldsV1"];
        fields["f:metadata"]["f:ownerReferences"] = json!({});
    });
}

/// A GatewayQueue of the same name and spec, created again.
fn again() -> GatewayQueue {
    let mut again = queue(json!({}));
    again.metadata.uid = Some("0002".to_owned());
    again
}

fn controllers(server: &Server) -> Vec<Value> {
    let objects = server.objects.lock().unwrap();
    let children = objects
        .iter()
        .filter(|(path, _)| !path.contains("/gatewayqueues/"));
    let uids = children.map(|(_, object)| object["metadata"]["ownerReferences"][0]["uid"].clone());
    uids.collect()
}

#[tokio::test]
async fn orphans_are_adopted_by_a_queue_of_the_same_name() {
    for seen in [true, false] {
        let server = Server::default();
        let _ = applied(&server).await;
        orphan(&server);
        // It had a leader.
        change(&server, |path, object| {
            if path.contains("/leases/") {
                object["metadata"]["annotations"] = json!({});
            }
        });
        let (context, mut writers) = context(&server);
        if seen {
            observe(&server, &mut writers);
        }
        let again = again();
        born(&context, &again);
        list(&server, &again);
        server.take_events();
        reconcile(Arc::new(again), context).await.unwrap();
        assert_ne!(reason(&server), "NameTaken");
        assert_eq!(controllers(&server), vec![json!("0002"); 6]);
        let lease = server.object("leases");
        let released =
            lease["metadata"]["annotations"].get(gateway_queue_core::lease_state::HANDOVER);
        assert_eq!(released, None, "it says that there was never a leader");
        let notes = server.take_events();
        assert!(!notes.contains(&"ChildReverted"), "{notes:?}");
    }
}

/// The API server lists this GatewayQueue.
fn list(server: &Server, queue: &GatewayQueue) {
    let metadata = serde_json::to_value(&queue.metadata).unwrap();
    *server.queues.lock().unwrap() = vec![metadata];
}

#[tokio::test]
async fn nothing_is_adopted_for_a_queue_that_is_being_deleted_or_was_recreated() {
    let mut deleted = again();
    deleted.metadata.deletion_timestamp =
        serde_json::from_value(json!("2026-11-23T12:00:00Z")).unwrap();
    for listed in [deleted, queue(json!({}))] {
        let server = Server::default();
        let _ = applied(&server).await;
        orphan(&server);
        list(&server, &listed);
        let (context, _writers) = context(&server);
        server.take_calls();
        // The cache lags behind.
        reconcile(Arc::new(again()), context).await.unwrap();
        assert_eq!(server.take_writes(), [format!("{PREFIX}/status")]);
        assert_eq!(controllers(&server), vec![Value::Null; 6]);
    }
}

/// The orphans of a GatewayQueue with two replicas and a token.
async fn orphans_of_a_pair() -> Server {
    let server = Server::default();
    let (context, _writers) = context(&server);
    let pair = queue(json!({"replicas": 2, "tokenSecretRef": {"name": "other"}}));
    reconcile(Arc::new(pair), context).await.unwrap();
    orphan(&server);
    server
}

#[tokio::test]
async fn an_orphan_that_is_not_desired_is_deleted_only_for_a_current_queue() {
    for is_current in [true, false] {
        let server = orphans_of_a_pair().await;
        let listed = if is_current {
            again()
        } else {
            queue(json!({}))
        };
        list(&server, &listed);
        let (context, _writers) = context(&server);
        server.take_calls();
        reconcile(Arc::new(again()), context).await.unwrap();
        let calls = server.take_calls();
        let deletes = calls.iter().filter(|(method, _)| *method == Method::DELETE);
        let deleted: Vec<&str> = deletes.map(|(_, path)| &**path).collect();
        let expected: &[&str] = if is_current {
            &[
                "/apis/coordination.k8s.io/v1/namespaces/shop/leases/my-bot",
                "/apis/policy/v1/namespaces/shop/poddisruptionbudgets/my-bot",
            ]
        } else {
            &[]
        };
        assert_eq!(deleted, expected);
    }
}

#[tokio::test]
async fn what_only_resembles_an_orphan_is_left_alone() {
    let imitations: [fn(&mut Value); 6] = [
        // Not applied by the operator, whatever its labels.
        |metadata| metadata["managedFields"] = json!([]),
        |metadata| metadata["managedFields"][0]["manager"] = json!("kubectl"),
        |metadata| metadata["managedFields"][0]["operation"] = json!("Update"),
        // Another controller owns it.
        |metadata| {
            metadata["ownerReferences"] = json!([{
                "apiVersion": "apps/v1", "kind": "Deployment", "name": "x", "uid": "0666",
                "controller": true,
            }]);
        },
        // Of another GatewayQueue.
        |metadata| {
            metadata["labels"]["gatewayqueue.dev/name"] = json!("other");
            metadata["labels"][desired::INSTANCE] = json!("other");
        },
        |metadata| metadata["labels"] = json!({}),
    ];
    for (which, imitation) in imitations.into_iter().enumerate() {
        let server = Server::default();
        let _ = applied(&server).await;
        orphan(&server);
        change(&server, |path, object| {
            if path.contains("/services/") {
                imitation(&mut object["metadata"]);
            }
        });
        let service = server.object("services");
        let (context, _writers) = context(&server);
        reconcile(Arc::new(again()), context).await.unwrap();
        assert_eq!(server.object("services"), service, "{which}");
        assert_eq!(reason(&server), "NameTaken", "{which}");
    }
}

/// As an earlier version of the operator applied them.
fn age(server: &Server) {
    change(server, |_, object| {
        let labels = object["metadata"]["labels"].as_object_mut().unwrap();
        labels.retain(|key, _| key != "gatewayqueue.dev/name");
        if let Some(hash) = object["metadata"]["annotations"].get_mut(desired::APPLIED) {
            *hash = json!("of a manifest without the label");
        }
        let fields = &mut object["metadata"]["managedFields"][0]["fieldsV1"];
        let labels = fields["f:metadata"]["f:labels"].as_object_mut().unwrap();
        labels.retain(|key, _| key != "f:gatewayqueue.dev/name");
    });
}

#[tokio::test]
async fn children_of_an_earlier_version_get_the_label_of_this_one() {
    let server = Server::default();
    let (queue, _, _) = applied(&server).await;
    age(&server);
    // No watch returns them.
    let (context, _writers) = context(&server);
    let before = server.status();
    server.take_events();
    server.take_calls();
    reconcile(queue, context).await.unwrap();
    let unlabelled = {
        let objects = server.objects.lock().unwrap();
        let children = objects
            .iter()
            .filter(|(path, _)| !path.contains("/gatewayqueues/"));
        let lacks =
            |object: &Value| object["metadata"]["labels"]["gatewayqueue.dev/name"].is_null();
        children.filter(|(_, object)| lacks(object)).count()
    };
    assert_eq!(unlabelled, 0);
    // The status does not change until the watches return them.
    assert_eq!(server.status(), before);
    assert_eq!(server.take_events(), [""; 0]);
}

#[tokio::test]
async fn a_child_of_an_earlier_version_that_is_no_longer_desired_is_deleted() {
    let server = Server::default();
    let (context_before, mut writers) = context(&server);
    let mut wide = queue(json!({"replicas": 2}));
    reconcile(Arc::new(wide.clone()), Arc::clone(&context_before))
        .await
        .unwrap();
    observe(&server, &mut writers);
    wide = (*reported(&wide, &server)).clone();
    age(&server);
    // It was scaled down while no operator ran.
    wide.spec.replicas = 1;
    wide.metadata.generation = Some(2);
    let (context, mut writers) = context(&server);
    reconcile(Arc::new(wide.clone()), Arc::clone(&context))
        .await
        .unwrap();
    let budget = |server: &Server| {
        let objects = server.objects.lock().unwrap();
        objects
            .keys()
            .any(|path| path.contains("poddisruptionbudgets"))
    };
    assert!(!budget(&server));
    observe(&server, &mut writers);
    reconcile(reported(&wide, &server), Arc::clone(&context))
        .await
        .unwrap();
    server.take_calls();
    reconcile(reported(&wide, &server), context).await.unwrap();
    assert_eq!(server.take_calls(), []);
}

#[tokio::test]
async fn a_foreign_object_of_a_kind_that_is_not_desired_is_read_once() {
    let server = Server::default();
    let path = "/apis/policy/v1/namespaces/shop/poddisruptionbudgets/my-bot";
    let foreign = json!({"metadata": {"name": "my-bot", "namespace": "shop", "uid": "0666"}});
    let objects = || server.objects.lock().unwrap();
    objects().insert(path.to_owned(), foreign.clone());
    let (queue, context, _writers) = applied(&server).await;
    server.take_calls();
    reconcile(queue, context).await.unwrap();
    assert_eq!(server.take_calls(), []);
    assert_eq!(objects()[path], foreign);
}
