//! Changes by admission are reported once, and accepted.

use super::*;

/// The writes and events of a few reconciles, each after the watches returned everything.
async fn afterwards(operator: &mut Operator) -> (Vec<String>, Vec<&'static str>) {
    operator.take_calls();
    operator.take_events();
    for _ in 0..4 {
        operator.observe();
        operator.reconcile().await.unwrap();
    }
    (operator.take_writes(), operator.take_events())
}

fn is_service(path: &str) -> bool {
    path.contains("/services/")
}

const REWRITES: [Admission; 5] = [
    |path, object| {
        if is_service(path) {
            object["metadata"]["labels"][desired::MANAGED_BY] = json!("helm");
        }
    },
    |path, object| {
        if is_service(path) {
            object["metadata"]["annotations"]["team"] = json!("theirs");
        }
    },
    // It removes unknown annotations, and with them their ownership.
    |path, object| {
        if is_service(path) {
            object["metadata"]["annotations"] = json!({});
            object["metadata"]["managedFields"][0]["fieldsV1"]["f:metadata"]["f:annotations"] =
                json!({});
        }
    },
    |path, object| {
        if is_service(path) {
            object["metadata"]["labels"] = json!({});
            object["metadata"]["managedFields"][0]["fieldsV1"]["f:metadata"]["f:labels"] =
                json!({});
        }
    },
    |path, object| {
        if is_service(path) {
            object["metadata"]["managedFields"] = json!([]);
        }
    },
];

#[tokio::test]
async fn what_admission_rewrites_is_reported_once_and_left() {
    for (which, admission) in REWRITES.into_iter().enumerate() {
        let mut operator = Operator::new(json!({"service": {"annotations": {"team": "ours"}}}));
        operator.api().admission = Some(admission);
        operator.reconcile().await.unwrap();
        let first = operator.take_events();
        let rewritten = first.iter().filter(|reason| **reason == "ChildRewritten");
        assert_eq!(rewritten.count(), 1, "{which}: {first:?}");
        operator.observe();
        operator.reconcile().await.unwrap();
        let nothing = (Vec::new(), Vec::new());
        assert_eq!(afterwards(&mut operator).await, nothing, "{which}");

        // A restarted operator finds out with one call.
        let mut restarted = operator.restarted();
        restarted.observe();
        restarted.take_calls();
        restarted.reconcile().await.unwrap();
        assert_eq!(restarted.take_writes(), [SERVICE], "{which}");
        assert_eq!(restarted.take_events(), ["ChildRewritten"], "{which}");
        assert_eq!(afterwards(&mut restarted).await, nothing, "{which}");
    }
}

#[tokio::test]
async fn an_edit_next_to_what_admission_rewrites_is_reverted() {
    let mut operator = Operator::new(json!({}));
    operator.api().admission = Some(REWRITES[0]);
    operator.settle().await;
    let nothing = (Vec::new(), Vec::new());
    assert_eq!(afterwards(&mut operator).await, nothing);
    let mut edited = operator.object("services");
    edited["metadata"]["labels"][desired::INSTANCE] = json!("other");
    operator.put_metadata(Kind::Service, edited);
    operator.reconcile().await.unwrap();
    assert_eq!(operator.take_writes().len(), 1);
    assert_eq!(operator.take_events(), ["ChildReverted"]);
    let labels = &operator.object("services")["metadata"]["labels"];
    assert_eq!(labels[desired::INSTANCE], "my-bot");
}

#[tokio::test]
async fn admission_that_rewrites_differently_each_time_is_limited() {
    let mut operator = Operator::new(json!({}));
    operator.api().admission = Some(|path, object| {
        if is_service(path) {
            object["metadata"]["labels"][desired::MANAGED_BY] =
                json!(fastrand::u64(..).to_string());
        }
    });
    operator.settle().await;
    operator.take_calls();
    operator.take_events();
    for edit in 0..20 {
        operator.observe();
        // Another client writes it, too.
        let mut edited = operator.object("services");
        edited["metadata"]["labels"][desired::MANAGED_BY] = json!(edit.to_string());
        operator.put_metadata(Kind::Service, edited);
        operator.reconcile().await.unwrap();
    }
    let (writes, notes) = (operator.take_writes().len(), operator.take_events().len());
    assert!(writes <= 3 && notes <= 3, "{writes} writes, {notes} events");
}
