//! From the lists and watches of the API server to reconciles.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt as _;
use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use kube::runtime::reflector::store;
use kube::runtime::watcher;
use tokio_util::task::JoinMap;
use url::form_urlencoded;

use super::*;
use crate::observe::lease::ObservedLease;
use crate::observe::watch_stream::watch_stream;
use crate::observe::watches::watch_children;

/// The scope of all namespaces.
fn scope(client: Client) -> Scope {
    Scope {
        client,
        namespace: None,
        health: Arc::default(),
    }
}

/// The reason of the condition `Ready` of the queue of this name.
fn reason_of(operator: &Operator, name: &str) -> Option<Value> {
    let object = operator
        .api()
        .objects
        .get(&STATUS.replace("my-bot", name))?
        .clone();
    Some(object["status"]["conditions"][0]["reason"].clone())
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_queue_is_reported_and_does_not_block_others() {
    let mut operator = Operator::new(json!({}));
    let broken = json!({
        "metadata": {"name": "broken", "namespace": "shop", "uid": "0002", "generation": 1},
        "spec": {"port": "abc"},
    });
    let queues = json!([broken, operator.queue]);
    // It has no other objects, and no events.
    let scope = scope(mock_client(move |parts, _| {
        let is_watch = parts
            .uri
            .query()
            .is_some_and(|query| query.contains("watch=true"));
        let items = match parts.uri.path().ends_with("/gatewayqueues") {
            true => queues.clone(),
            false => json!([]),
        };
        let list = json!({"metadata": {"resourceVersion": "1"}, "items": items});
        (!is_watch).then_some((200, list))
    }));
    let mut watches = JoinMap::new();
    let (caches, triggers) = watch_children(&scope, &Arc::default(), &mut watches);
    operator.context().applier.caches = caches;
    let (context, stop) = (Arc::clone(&operator.context), CancellationToken::new());
    let run = controller(&scope, triggers, context, stop.clone(), || {});
    let running = tokio::spawn(run);
    let reported = async {
        while reason_of(&operator, "broken").is_none() || reason_of(&operator, "my-bot").is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let reported = tokio::time::timeout(Duration::from_secs(60), reported).await;
    let seen = (
        reason_of(&operator, "broken"),
        reason_of(&operator, "my-bot"),
    );
    assert!(reported.is_ok(), "not reported: {seen:?}");
    let expected = ["InvalidSpec", "RolloutInProgress"].map(|reason| Some(json!(reason)));
    assert_eq!([seen.0, seen.1], expected);
    assert!(operator.has(DEPLOYMENT));
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn children_are_watched_by_labels_that_no_platform_rewrites() {
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let scope = scope(Client::new(service, "default"));
    let mut watches = JoinMap::new();
    let _stores = watch_children(&scope, &Arc::default(), &mut watches);
    for _ in 0..9 {
        let (request, send) = handle.next_request().await.unwrap();
        let query = request.uri().query().unwrap_or_default();
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        let selector = pairs.find(|(key, _)| key == "labelSelector");
        let selector = selector.map_or_else(String::new, |(_, value)| value.into_owned());
        let expected = match request.uri().path().ends_with("/pods") {
            true => "app.kubernetes.io/component=queue,app.kubernetes.io/name=gateway-queue",
            false => "gatewayqueue.dev/name",
        };
        assert_eq!(selector, expected, "{}", request.uri());
        drop(send);
    }
}

/// Two responses for each attempt: a list and its watch, or two pages of a list. Returns the
/// number of attempts, and whether the watch counts as failing.
async fn attempts_in_ten_minutes(answers: [(u16, Value); 2]) -> (usize, bool) {
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    let scope = scope(mock_client(move |_, _| {
        Some(answers[counter.fetch_add(1, Ordering::Relaxed) % 2].clone())
    }));
    let leases = store::<ObservedLease>().1;
    let config = watcher::Config::default();
    let events = watch_stream(&scope, scope.api(), &(), config, leases);
    let events = events.for_each(|_| std::future::ready(()));
    let _ = tokio::time::timeout(Duration::from_secs(600), events).await;
    let is_failing = scope.health.longest_failure("*", Instant::now()).is_some();
    (requests.load(Ordering::Relaxed) / 2, is_failing)
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

#[tokio::test]
async fn a_change_of_any_child_triggers_its_queue() {
    let owner = Owner::of(&Operator::new(json!({})).queue).unwrap();
    for kind in Kind::ALL {
        let child = json!({"metadata": {
            "name": kind.name_for(&owner), "namespace": "shop", "uid": "0042",
            "resourceVersion": "2",
        }});
        let plural = kind.resource().plural;
        let scope = scope(mock_client(move |parts, _| {
            let is_watch = parts.uri.query().is_some_and(|q| q.contains("watch=true"));
            let is_of_kind = parts.uri.path().ends_with(&format!("/{plural}"));
            let list = json!({"metadata": {"resourceVersion": "1"}, "items": []});
            let event = json!({"type": "MODIFIED", "object": child});
            match (is_watch, is_of_kind) {
                (false, _) => Some((200, list)),
                (true, true) => Some((200, event)),
                (true, false) => None,
            }
        }));
        let mut watches = JoinMap::new();
        let (_caches, mut triggered) = watch_children(&scope, &Arc::default(), &mut watches);
        let first = tokio::time::timeout(Duration::from_secs(60), triggered.one.next()).await;
        let queue = first.expect("a trigger").expect("an open channel");
        assert_eq!(queue.name, "my-bot", "{kind:?}");
        assert_eq!(queue.namespace.as_deref(), Some("shop"), "{kind:?}");
    }
}
