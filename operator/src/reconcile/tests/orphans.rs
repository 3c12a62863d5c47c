//! Existing children: left by a GatewayQueue that was deleted without them, or created by an
//! earlier version of the operator.

use super::*;
use gateway_queue_core::lease_state::HANDOVER;

impl Operator {
    /// The children, as `kubectl delete --cascade=orphan` leaves them. The API server lists the
    /// GatewayQueue `listed`.
    async fn orphans(spec: Value, listed: &GatewayQueue) -> Self {
        let mut operator = Self::new(spec);
        // So its Lease was created, not applied.
        operator.born();
        operator.reconcile().await.unwrap();
        let mut api = operator.api();
        api.objects.remove(STATUS);
        api.queues = vec![serde_json::to_value(&listed.metadata).unwrap()];
        for (_, object) in api.children() {
            let metadata = object["metadata"].as_object_mut().unwrap();
            metadata.remove("ownerReferences");
            let fields = &mut metadata["managedFields"][0]["fieldsV1"];
            fields["f:metadata"]["f:ownerReferences"] = json!({});
        }
        drop(api);
        operator.queue = again();
        operator.restarted()
    }

    /// The UID of the owner of each child.
    fn owners(&self) -> Vec<Value> {
        let mut api = self.api();
        let children = api.children();
        let uids = children.map(|(_, object)| &object["metadata"]["ownerReferences"][0]["uid"]);
        uids.cloned().collect()
    }

    fn change_service(&self, change: impl FnOnce(&mut Value)) {
        change(self.api().objects.get_mut(SERVICE).unwrap());
    }

    /// Makes the children those of an earlier version of the operator, which has stopped.
    fn aged(&self) -> Self {
        for (_, object) in self.api().children() {
            let labels = object["metadata"]["labels"].as_object_mut().unwrap();
            labels.retain(|key, _| key != desired::NAME);
            if let Some(hash) = object["metadata"]["annotations"].get_mut(desired::APPLIED) {
                *hash = json!("of a manifest without the label");
            }
            let fields = &mut object["metadata"]["managedFields"][0]["fieldsV1"];
            let labels = fields["f:metadata"]["f:labels"].as_object_mut().unwrap();
            labels.retain(|key, _| key != "f:gatewayqueue.dev/name");
        }
        self.take_calls();
        self.restarted()
    }
}

/// A GatewayQueue of the same name and spec, created again.
fn again() -> GatewayQueue {
    let mut again = queue(json!({}));
    again.metadata.uid = Some("0002".to_owned());
    again
}

#[tokio::test]
async fn orphans_are_adopted_by_a_queue_of_the_same_name() {
    for is_observed in [true, false] {
        let mut operator = Operator::orphans(json!({}), &again()).await;
        // It had a leader.
        operator.api().objects.get_mut(LEASE).unwrap()["metadata"]["annotations"] = json!({});
        if is_observed {
            operator.observe();
        }
        operator.born();
        operator.reconcile().await.unwrap();
        assert_ne!(operator.reason(), "NameTaken");
        assert_eq!(operator.owners(), vec![json!("0002"); 6]);
        let lease = operator.object("leases");
        let handover = lease["metadata"]["annotations"].get(HANDOVER);
        assert_eq!(handover, None, "it says that there was never a leader");
        let events = operator.take_events();
        assert!(!events.contains(&"ChildReverted"), "{events:?}");
    }
}

#[tokio::test]
async fn nothing_is_adopted_for_a_queue_that_is_being_deleted_or_was_recreated() {
    let mut deleted = again();
    deleted.metadata.deletion_timestamp =
        serde_json::from_value(json!("2026-11-23T12:00:00Z")).unwrap();
    for listed in [deleted, queue(json!({}))] {
        let mut operator = Operator::orphans(json!({}), &listed).await;
        operator.take_calls();
        // The cache lags behind.
        operator.reconcile().await.unwrap();
        assert_eq!(operator.take_writes(), [STATUS]);
        assert_eq!(operator.owners(), vec![Value::Null; 6]);
    }
}

#[tokio::test]
async fn an_orphan_that_is_not_desired_is_deleted_only_for_a_current_queue() {
    let pair = json!({"replicas": 2, "tokenSecretRef": {"name": "other"}});
    let [current, older] = [again(), queue(json!({}))];
    for (listed, expected) in [(current, &[LEASE, BUDGET][..]), (older, &[])] {
        let mut operator = Operator::orphans(pair.clone(), &listed).await;
        operator.take_calls();
        operator.reconcile().await.unwrap();
        let calls = operator.take_calls();
        let deletes = calls.iter().filter(|(method, _)| *method == Method::DELETE);
        let deleted: Vec<&str> = deletes.map(|(_, path)| &**path).collect();
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
            metadata["labels"][desired::NAME] = json!("other");
            metadata["labels"][desired::INSTANCE] = json!("other");
        },
        |metadata| metadata["labels"] = json!({}),
    ];
    for (which, imitation) in imitations.into_iter().enumerate() {
        let mut operator = Operator::orphans(json!({}), &again()).await;
        operator.change_service(|service| imitation(&mut service["metadata"]));
        let service = operator.object("services");
        operator.reconcile().await.unwrap();
        assert_eq!(operator.object("services"), service, "{which}");
        assert_eq!(operator.reason(), "NameTaken", "{which}");
    }
}

#[tokio::test]
async fn children_of_an_earlier_version_get_the_label_of_this_one() {
    // No watch returns them.
    let mut operator = Operator::applied().await.aged();
    let before = operator.status();
    operator.reconcile().await.unwrap();
    for (path, object) in operator.api().children() {
        assert_eq!(
            object["metadata"]["labels"][desired::NAME],
            "my-bot",
            "{path}"
        );
    }
    // The status does not change until the watches return them.
    assert_eq!(operator.status(), before);
    assert_eq!(operator.take_events(), [""; 0]);
}

#[tokio::test]
async fn a_child_of_an_earlier_version_that_is_no_longer_desired_is_deleted() {
    let mut before = Operator::new(json!({"replicas": 2}));
    before.reconcile().await.unwrap();
    let mut operator = before.aged();
    // It was scaled down while no operator ran.
    operator.queue.spec.replicas = 1;
    operator.queue.metadata.generation = Some(2);
    operator.settle().await;
    assert!(!operator.has(BUDGET));
    operator.take_calls();
    operator.reconcile().await.unwrap();
    assert_eq!(operator.take_calls(), []);
}

#[tokio::test]
async fn a_foreign_object_of_a_kind_that_is_not_desired_is_read_once() {
    let mut operator = Operator::new(json!({}));
    let foreign = operator.create_foreign(BUDGET);
    operator.settle().await;
    operator.take_calls();
    operator.reconcile().await.unwrap();
    assert_eq!(operator.take_calls(), []);
    assert_eq!(operator.object("poddisruptionbudgets"), foreign);
}
