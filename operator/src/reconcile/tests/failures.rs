//! Each call fails in each way. The next reconcile reaches the state that the first would
//! have.

use super::*;

/// Every write, in order.
const WRITES: [&str; 7] = [
    "/serviceaccounts/",
    "/roles/",
    "/rolebindings/",
    "/leases",
    "/services/",
    "/deployments/",
    "/status",
];

const CODES: [u16; 10] = [400, 401, 403, 404, 409, 422, 429, 500, 503, 504];

/// Reconciles until it succeeds. Returns the number of failures.
async fn converge(server: &Server, context: &Arc<Context>) -> u32 {
    let mut failures = 0;
    loop {
        let mut queue = queue(json!({}));
        if let Some(status) = server
            .objects
            .lock()
            .unwrap()
            .get(&format!("{PREFIX}/status"))
        {
            queue.status = serde_json::from_value(status["status"].clone()).unwrap();
        }
        if reconcile(Arc::new(queue), Arc::clone(context))
            .await
            .is_ok()
        {
            return failures;
        }
        failures += 1;
        assert!(failures < 5, "it does not converge");
    }
}

/// The paths of all objects.
fn objects(server: &Server) -> Vec<String> {
    let objects = server.objects.lock().unwrap();
    let mut paths: Vec<String> = objects.keys().cloned().collect();
    paths.sort();
    paths
}

async fn without_failure() -> Vec<String> {
    let server = Server::default();
    let (context, _writers) = context(&server);
    assert_eq!(converge(&server, &context).await, 0);
    objects(&server)
}

#[tokio::test]
async fn any_failed_write_is_made_up_for() {
    let expected = without_failure().await;
    assert_eq!(expected.len(), WRITES.len());
    for place in WRITES {
        for code in CODES {
            let server = Server::default();
            *server.refuse.lock().unwrap() = Some((place, code, 1));
            let (context, _writers) = context(&server);
            assert_eq!(converge(&server, &context).await, 1, "{code} at {place}");
            assert_eq!(objects(&server), expected, "{code} at {place}");
            assert_eq!(reason(&server), "RolloutInProgress", "{code} at {place}");
        }
    }
}

#[tokio::test]
async fn a_failed_read_of_a_child_causes_no_write() {
    let expected = without_failure().await;
    for place in &WRITES[..6] {
        for code in [401, 403, 429, 500] {
            let server = Server::default();
            *server.hide.lock().unwrap() = Some((place, code, 1));
            let (context, _writers) = context(&server);
            let first = reconcile(Arc::new(queue(json!({}))), Arc::clone(&context)).await;
            assert!(first.is_err(), "{code} at {place}");
            assert_eq!(
                server.take_writes(),
                Vec::<String>::new(),
                "{code} at {place}"
            );
            assert_eq!(converge(&server, &context).await, 0);
            assert_eq!(objects(&server), expected, "{code} at {place}");
        }
    }
}

#[tokio::test]
async fn a_status_for_another_object_of_the_name_is_rejected() {
    let server = Server::default();
    let (context, _writers) = context(&server);
    let path = format!("{PREFIX}/status");
    let another = json!({"metadata": {"uid": "0666"}, "status": {}});
    server.objects.lock().unwrap().insert(path, another);
    let result = reconcile(Arc::new(queue(json!({}))), context).await;
    assert!(
        result
            .unwrap_err()
            .to_string()
            .contains("the request is invalid (422)")
    );
    assert_eq!(server.status(), json!({}));
}

#[tokio::test]
async fn a_rejected_deletion_is_reported_and_retried() {
    let server = Server::default();
    let (queue, context, mut writers) = applied(&server).await;
    let budget = json!({
        "metadata": {
            "name": "my-bot", "namespace": "shop", "uid": "0042",
            "ownerReferences": [{"apiVersion": "v1", "kind": "x", "name": "x", "uid": "0001"}],
        },
    });
    let path = "/apis/policy/v1/namespaces/shop/poddisruptionbudgets/my-bot";
    server
        .objects
        .lock()
        .unwrap()
        .insert(path.to_owned(), budget.clone());
    put_metadata(&mut writers, Kind::PodDisruptionBudget, budget);
    *server.refuse.lock().unwrap() = Some(("/poddisruptionbudgets/", 403, 1));
    let refused = reconcile(Arc::clone(&queue), Arc::clone(&context)).await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("cannot delete PodDisruptionBudget")
    );
    assert_eq!(reason(&server), "ChildRefused");
    reconcile(queue, context).await.unwrap();
    assert!(!server.objects.lock().unwrap().contains_key(path));
}

#[tokio::test]
async fn a_repeated_failure_is_reported_and_a_single_one_is_not() {
    let server = Server::default();
    *server.refuse.lock().unwrap() = Some(("/services/", 500, 2));
    let (context, _writers) = context(&server);
    let queue = Arc::new(queue(json!({})));
    for reported in [false, true] {
        let result = reconcile(Arc::clone(&queue), Arc::clone(&context)).await;
        let error = result.unwrap_err();
        let writes = server.take_writes();
        assert_eq!(
            writes.contains(&format!("{PREFIX}/status")),
            reported,
            "{writes:?}"
        );
        retry_later(stored(&queue), &error, Arc::clone(&context));
    }
    assert_eq!(reason(&server), "ApplyFailed");
    let message = server.status()["conditions"][0]["message"].clone();
    assert!(
        message
            .as_str()
            .unwrap()
            .contains("it is forbidden here (500)"),
        "{message}"
    );
    reconcile(reported(&queue, &server), context).await.unwrap();
    assert_eq!(reason(&server), "RolloutInProgress");
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_times_out() {
    for place in WRITES {
        let server = Server::default();
        *server.hang.lock().unwrap() = Some(place);
        let (context, _writers) = context(&server);
        let result = reconcile(Arc::new(queue(json!({}))), context).await;
        let error = result.unwrap_err().to_string();
        assert!(error.contains("no answer within"), "{place}: {error}");
    }
}

#[tokio::test]
async fn in_a_terminating_namespace_nothing_is_created_reported_or_retried() {
    let server = Server::default();
    server
        .terminates
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let (context, _writers) = context(&server);
    let queue = Arc::new(queue(json!({})));
    let action = reconcile(queue, context).await.unwrap();
    assert_eq!(action, Action::await_change());
    assert_eq!(server.take_writes().len(), 1);
    assert_eq!(server.take_events(), [""; 0]);
}
