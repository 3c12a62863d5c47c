//! From the lists and watches of the API server to reconciles.

use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::reflector::store;
use kube::runtime::watcher;
use tokio_util::task::JoinMap;

use super::*;
use crate::observe::watch_stream::watch_stream;
use crate::observe::watches::watch_children;

/// A client whose API server lists `queues` and no other objects, and has no events.
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

/// The reason of the condition `Ready` of the queue of this name.
fn reason_of(server: &Server, name: &str) -> Option<Value> {
    let path = format!("/apis/gatewayqueue.dev/v1alpha1/namespaces/shop/gatewayqueues/{name}");
    let objects = server.objects.lock().unwrap();
    let object = objects.get(&format!("{path}/status"))?;
    Some(object["status"]["conditions"][0]["reason"].clone())
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_queue_is_reported_and_does_not_block_others() {
    let server = Server::default();
    let (context, _writers) = context(&server);
    let broken = json!({
        "metadata": {"name": "broken", "namespace": "shop", "uid": "0002", "generation": 1},
        "spec": {"port": "abc"},
    });
    let client = listing(json!([broken, queue(json!({}))]));
    let mut watches = JoinMap::new();
    let scope = Scope {
        client,
        namespace: None,
        health: Arc::default(),
    };
    let (caches, triggers) = watch_children(&scope, &Arc::default(), &mut watches);
    let mut context = Arc::into_inner(context).unwrap();
    context.applier.caches = caches;
    let stop = CancellationToken::new();
    let run = controller(&scope, triggers, Arc::new(context), stop.clone(), || {});
    let running = tokio::spawn(run);
    let reported = async {
        while reason_of(&server, "broken").is_none() || reason_of(&server, "my-bot").is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let reported = tokio::time::timeout(Duration::from_secs(60), reported).await;
    let seen = (reason_of(&server, "broken"), reason_of(&server, "my-bot"));
    assert!(reported.is_ok(), "not reported: {seen:?}");
    let expected = ["InvalidSpec", "RolloutInProgress"].map(|reason| Some(json!(reason)));
    assert_eq!([seen.0, seen.1], expected);
    server.object("deployments");
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn children_are_watched_by_labels_that_no_platform_rewrites() {
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let client = Client::new(service, "default");
    let mut watches = JoinMap::new();
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
            true => "app.kubernetes.io/component=queue,app.kubernetes.io/name=gateway-queue",
            false => "gatewayqueue.dev/name",
        };
        assert_eq!(selector, expected, "{}", request.uri());
        drop(send);
    }
}

/// The pairs of a query in which only these characters are escaped.
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

/// Two responses for each attempt: a list and its watch, or two pages of a list. Returns the
/// number of attempts, and whether the watch counts as failing.
async fn attempts_in_ten_minutes(answers: [(u16, Value); 2]) -> (usize, bool) {
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let health = Arc::<crate::observe::watch_health::WatchHealth>::default();
    let scope = Scope {
        client: Client::new(service, "default"),
        namespace: None,
        health: Arc::clone(&health),
    };
    let leases = store::<Lease>().1;
    let config = watcher::Config::default();
    let events = watch_stream(&scope, scope.api(), &(), config, leases, |_| {});
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
async fn a_watch_that_keeps_expiring_is_retried_less_often_and_reported() {
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
