//! Changes by admission are reported once, and accepted.

use super::*;

/// The writes and events of a few reconciles, each after the watches returned everything.
async fn afterwards(
    server: &Server,
    queue: &Arc<GatewayQueue>,
    context: &Arc<Context>,
    writers: &mut Writers,
) -> (Vec<String>, Vec<&'static str>) {
    server.take_calls();
    server.take_events();
    for _ in 0..4 {
        observe(server, writers);
        reconcile(Arc::clone(queue), Arc::clone(context))
            .await
            .unwrap();
    }
    (server.take_writes(), server.take_events())
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
        let server = Server::default();
        *server.admission.lock().unwrap() = Some(admission);
        let (context, mut writers) = context(&server);
        let new = queue(json!({"service": {"annotations": {"team": "ours"}}}));
        reconcile(Arc::new(new.clone()), Arc::clone(&context))
            .await
            .unwrap();
        let first = server.take_events();
        let rewritten = first.iter().filter(|reason| **reason == "ChildRewritten");
        assert_eq!(rewritten.count(), 1, "{which}: {first:?}");
        observe(&server, &mut writers);
        reconcile(reported(&new, &server), Arc::clone(&context))
            .await
            .unwrap();

        let new = reported(&new, &server);
        let after = afterwards(&server, &new, &context, &mut writers).await;
        assert_eq!(after, (Vec::new(), Vec::new()), "{which}");

        // A restarted operator finds out with one call.
        let (restarted, mut writers) = super::context(&server);
        observe(&server, &mut writers);
        server.take_calls();
        reconcile(Arc::clone(&new), Arc::clone(&restarted))
            .await
            .unwrap();
        let writes = server.take_writes();
        assert!(
            writes.len() == 1 && is_service(&writes[0]),
            "{which}: {writes:?}"
        );
        assert_eq!(server.take_events(), ["ChildRewritten"], "{which}");
        let after = afterwards(&server, &new, &restarted, &mut writers).await;
        assert_eq!(after, (Vec::new(), Vec::new()), "{which}");
    }
}

#[tokio::test]
async fn an_edit_next_to_what_admission_rewrites_is_reverted() {
    let server = Server::default();
    *server.admission.lock().unwrap() = Some(REWRITES[0]);
    let (queue, context, mut writers) = applied(&server).await;
    let after = afterwards(&server, &queue, &context, &mut writers).await;
    assert_eq!(after, (Vec::new(), Vec::new()));
    let mut edited = server.object("services");
    edited["metadata"]["labels"][desired::INSTANCE] = json!("other");
    put_metadata(&mut writers, Kind::Service, edited);
    reconcile(queue, context).await.unwrap();
    assert_eq!(server.take_writes().len(), 1);
    assert_eq!(server.take_events(), ["ChildReverted"]);
    assert_eq!(
        server.object("services")["metadata"]["labels"][desired::INSTANCE],
        "my-bot"
    );
}

#[tokio::test]
async fn admission_that_rewrites_differently_each_time_is_limited() {
    let server = Server::default();
    *server.admission.lock().unwrap() = Some(|path, object| {
        if is_service(path) {
            object["metadata"]["labels"][desired::MANAGED_BY] =
                json!(fastrand::u64(..).to_string());
        }
    });
    let (queue, context, mut writers) = applied(&server).await;
    server.take_calls();
    server.take_events();
    for turn in 0..20 {
        observe(&server, &mut writers);
        // Another client writes it, too.
        let mut edited = server.object("services");
        edited["metadata"]["labels"][desired::MANAGED_BY] = json!(turn.to_string());
        put_metadata(&mut writers, Kind::Service, edited);
        reconcile(Arc::clone(&queue), Arc::clone(&context))
            .await
            .unwrap();
    }
    let (writes, notes) = (server.take_writes().len(), server.take_events().len());
    assert!(writes <= 3 && notes <= 3, "{writes} writes, {notes} events");
}
