//! From what the API server lists to the reconciles.

use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::reflector::store;
use kube::runtime::watcher;
use tokio::task::JoinSet;

use super::*;
use crate::observe::watches::{events_of, watch_children};

/// A client whose watches list `queues`, and nothing of any other kind, and bring
/// nothing more.
fn listing(queues: Value) -> Client {
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    tokio::spawn(async move {
        let mut watches = Vec::new();
        while let Some((request, send)) = handle.next_request().await {
            let uri = request.uri();
            if uri.query().unwrap_or_default().contains("watch=true") {
                watches.push(send);
                continue;
            }
            let items = match uri.path().ends_with("/gatewayqueues") {
                true => queues.clone(),
                false => json!([]),
            };
            let list = json!({"metadata": {"resourceVersion": "1"}, "items": items});
            let body = Body::from(serde_json::to_vec(&list).unwrap());
            send.send_response(Response::new(body));
        }
    });
    Client::new(service, "default")
}

/// Why the queue of this name is not ready, as far as it was told.
fn reason(server: &Server, name: &str) -> Option<Value> {
    let path = format!("/apis/gatewayqueue.dev/v1alpha1/namespaces/shop/gatewayqueues/{name}");
    let objects = server.objects.lock().unwrap();
    let object = objects.get(&format!("{path}/status"))?;
    Some(object["status"]["conditions"][0]["reason"].clone())
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_cannot_be_read_is_told_so_and_keeps_no_other_from_its_turn() {
    let server = Server::default();
    let (context, _writers) = context(&server);
    let broken = json!({
        "metadata": {"name": "broken", "namespace": "shop", "uid": "0002", "generation": 1},
        "spec": {"port": "abc"},
    });
    let client = listing(json!([broken, queue(json!({}))]));
    let mut watches = JoinSet::new();
    let scope = Scope {
        client,
        namespace: None,
        health: Arc::default(),
    };
    let (caches, triggers) = watch_children(&scope, &Arc::default(), &mut watches);
    let mut context = Arc::into_inner(context).unwrap();
    context.caches = caches;
    let stop = CancellationToken::new();
    let run = controller(&scope, triggers, Arc::new(context), stop.clone(), || {});
    let running = tokio::spawn(run);
    let reported = async {
        while reason(&server, "broken").is_none() || reason(&server, "my-bot").is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let reported = tokio::time::timeout(Duration::from_secs(60), reported).await;
    let seen = (reason(&server, "broken"), reason(&server, "my-bot"));
    assert!(reported.is_ok(), "only so much was told: {seen:?}");
    let expected = ["InvalidSpec", "RolloutInProgress"].map(|reason| Some(json!(reason)));
    assert_eq!([seen.0, seen.1], expected);
    // The one that can be read has its children, too.
    server.object("deployments");
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn children_are_watched_by_labels_that_nobody_else_rewrites() {
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let client = Client::new(service, "default");
    let mut watches = JoinSet::new();
    let scope = Scope {
        client,
        namespace: None,
        health: Arc::default(),
    };
    let _stores = watch_children(&scope, &Arc::default(), &mut watches);
    for _ in 0..9 {
        let (request, send) = handle.next_request().await.unwrap();
        let query = request.uri().query().unwrap_or_default();
        let mut pairs = form_urlencoded(query);
        let selector = pairs.remove("labelSelector").unwrap_or_default();
        let expected = match request.uri().path().ends_with("/pods") {
            // A Deployment has no pods without these.
            true => "app.kubernetes.io/component=queue,app.kubernetes.io/name=gateway-queue",
            false => "gatewayqueue.dev/name",
        };
        assert_eq!(selector, expected, "{}", request.uri());
        drop(send);
    }
}

/// The pairs of a query, of which only these signs are escaped.
fn form_urlencoded(query: &str) -> std::collections::HashMap<String, String> {
    let unescaped = |text: &str| {
        let text = text.replace("%2F", "/").replace("%3D", "=");
        text.replace("%2C", ",")
    };
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), unescaped(value)))
        .collect()
}

/// Two answers for each attempt: a list and its watch, or two pages of a list.
async fn attempts_in_ten_minutes(answers: [(u16, Value); 2]) -> (usize, bool) {
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let health = Arc::<crate::observe::watch_health::WatchHealth>::default();
    let scope = Scope {
        client: Client::new(service, "default"),
        namespace: None,
        health: Arc::clone(&health),
    };
    let leases = store::<Lease>().1;
    let events = events_of(&scope, watcher::Config::default(), leases, |_| {});
    tokio::spawn(events.for_each(|_| std::future::ready(())));
    let mut requests = 0;
    let answering = async {
        while let Some((_, send)) = handle.next_request().await {
            let (code, body) = &answers[requests % 2];
            let body = Body::from(serde_json::to_vec(body).unwrap());
            send.send_response(Response::builder().status(*code).body(body).unwrap());
            requests += 1;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(600), answering).await;
    let is_failing = health.longest_failure("*", Instant::now()).is_some();
    (requests / 2, is_failing)
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_expires_again_and_again_is_retried_less_often_and_reported() {
    let lease = json!({"metadata": {"name": "my-bot", "namespace": "shop"}});
    let list = |more: &str| {
        let metadata = json!({"resourceVersion": "1", "continue": more});
        (200, json!({"metadata": metadata, "items": [lease]}))
    };
    let expired = json!({"kind": "Status", "status": "Failure", "code": 410,
        "message": "too old", "reason": "Expired"});
    for (case, answers) in [
        ("watch", [list(""), (410, expired.clone())]),
        ("second page", [list("more"), (410, expired.clone())]),
    ] {
        let (attempts, is_failing) = attempts_in_ten_minutes(answers).await;
        assert!((20..60).contains(&attempts), "{case}: {attempts}");
        assert!(is_failing, "{case}");
    }
}
