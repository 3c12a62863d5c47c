use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::apply::applier::Applier;
use crate::apply::drift_backoff::DriftBackoff;
use crate::apply::requests::Requests;
use crate::controller::{controller, retry_later};
use crate::desired::Kind;
use crate::events::{EventRecorder, Pending};
use crate::metrics::Metrics;
use crate::observe::caches::{Caches, Writers};
use crate::observe::watch_stream::Scope;
use crate::reconcile::backoff::Backoffs;
use crate::status::last_written::LastWritten;
use crate::status::writer::StatusWriter;
use crate::testing::{after, defaults, queue};

mod admission;
mod failures;
mod leadership;
mod logging;
mod orphans;
mod server;
mod sharing;
mod watching;

use server::{Admission, PREFIX, Server};

fn stored(queue: &GatewayQueue) -> Arc<Stored> {
    Arc::new(Stored::Queue(Box::new(queue.clone())))
}

async fn reconcile(queue: Arc<GatewayQueue>, context: Arc<Context>) -> Result<Action, Error> {
    super::reconcile(stored(&queue), context).await
}

/// Records a GatewayQueue as its watch does when it is created.
fn born(context: &Context, queue: &GatewayQueue) {
    let claims = &context.applier.token_claims;
    claims.saw_live(&stored(queue), Instant::now());
}

/// A context whose calls go to `server`, and what fills its caches.
fn context(server: &Server) -> (Arc<Context>, Writers) {
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let answering = server.clone();
    tokio::spawn(async move {
        while let Some((request, send)) = handle.next_request().await {
            let response = answering.answer(request).await;
            send.send_response(response);
        }
    });
    let (metrics, _) = Metrics::new(&Arc::default());
    let requests = Requests::new(Client::new(service, "default"), metrics.clone());
    let (caches, writers) = Caches::new();
    let (events, pending) = EventRecorder::new();
    *server.events.lock().unwrap() = Some(pending);
    let context = Context {
        defaults: defaults(),
        applier: Applier {
            requests: requests.clone(),
            caches,
            token_claims: Arc::default(),
            drift_backoff: DriftBackoff::default(),
            events: events.clone(),
        },
        status_writer: StatusWriter {
            requests,
            events,
            last_written: LastWritten::default(),
        },
        backoffs: Backoffs::default(),
        metrics,
        is_leader: watch::channel(true).1,
        permits: Arc::new(Semaphore::new(1)),
    };
    (Arc::new(context), writers)
}

/// The watch returns an object.
fn put<K>(writer: &mut kube::runtime::reflector::store::Writer<K>, object: Value)
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + 'static,
    K::DynamicType: Eq + std::hash::Hash + Clone,
{
    let object = serde_json::from_value(object).unwrap();
    writer.apply_watcher_event(&Event::Apply(object));
}

/// The same for a kind of which the cache has only the metadata.
fn put_metadata(writers: &mut Writers, kind: Kind, object: Value) {
    put(writers.metadata.get_mut(&kind).unwrap(), object);
}

/// A pod of the GatewayQueue of this name, with more labels.
fn pod(queue: &str, labels: Value) -> Value {
    let mut pod = json!({"metadata": {
        "name": format!("{queue}-7d9f"), "namespace": "shop", "labels": labels,
    }});
    pod["metadata"]["labels"][desired::INSTANCE] = json!(queue);
    pod
}

/// The watches return everything that the server has.
fn observe(server: &Server, writers: &mut Writers) {
    for (kind, plural) in [
        (Kind::ServiceAccount, "serviceaccounts"),
        (Kind::Role, "roles"),
        (Kind::RoleBinding, "rolebindings"),
        (Kind::Service, "services"),
    ] {
        put_metadata(writers, kind, server.object(plural));
    }
    put(&mut writers.leases, server.object("leases"));
    put(&mut writers.deployments, server.object("deployments"));
}

/// Another client took over all fields of a child.
fn edit(server: &Server, plural: &str) -> Value {
    let mut edited = server.object(plural);
    edited["metadata"]["managedFields"] = json!([]);
    edited
}

/// The reason of the condition `Ready`.
fn reason(server: &Server) -> Value {
    server.status()["conditions"][0]["reason"].clone()
}

/// The queue after its status was written.
fn reported(queue: &GatewayQueue, server: &Server) -> Arc<GatewayQueue> {
    let mut queue = queue.clone();
    queue.status = serde_json::from_value(server.status()).unwrap();
    Arc::new(queue)
}

/// A queue whose children and status are as desired. The recorded calls are those of its first
/// reconcile.
async fn applied(server: &Server) -> (Arc<GatewayQueue>, Arc<Context>, Writers) {
    let (context, mut writers) = context(server);
    let queue = queue(json!({}));
    born(&context, &queue);
    reconcile(Arc::new(queue.clone()), Arc::clone(&context))
        .await
        .unwrap();
    let first = server.take_calls();
    observe(server, &mut writers);
    // The status depends on the observed Deployment.
    reconcile(reported(&queue, server), Arc::clone(&context))
        .await
        .unwrap();
    *server.calls.lock().unwrap() = first;
    (reported(&queue, server), context, writers)
}

#[tokio::test]
async fn a_new_queue_gets_its_children_and_then_its_status() {
    let server = Server::default();
    let _ = applied(&server).await;
    let writes = server.take_writes();
    let kinds: Vec<&str> = writes
        .iter()
        .map(|path| path.strip_suffix("/my-bot").unwrap_or(path))
        .map(|path| path.rsplit('/').next().unwrap())
        .collect();
    assert_eq!(
        kinds,
        [
            "serviceaccounts",
            "roles",
            "rolebindings",
            "leases",
            "services",
            "deployments",
            "status"
        ]
    );
    assert_eq!(reason(&server), "RolloutInProgress");
}

#[tokio::test]
async fn a_second_reconcile_makes_no_call() {
    let server = Server::default();
    let (queue, context, _writers) = applied(&server).await;
    server.take_calls();
    let action = reconcile(queue, context).await.unwrap();
    assert_eq!(server.take_calls(), []);
    assert_eq!(action, Action::await_change());
}

#[tokio::test]
async fn what_others_wrote_into_the_status_is_overwritten_once() {
    let server = Server::default();
    let (queue, context, _writers) = applied(&server).await;
    let expected = server.status();
    let status = format!("{PREFIX}/status");
    let edited = {
        let mut objects = server.objects.lock().unwrap();
        let edited = &mut objects.get_mut(&status).unwrap()["status"];
        edited["leader"] = json!("another");
        edited["sessionStarts"] = json!({"total": 1, "remaining": 1, "resetTime": null});
        let other = json!({"type": "Other", "status": "True", "reason": "Why", "message": "",
            "lastTransitionTime": "2026-11-23T12:00:00Z"});
        edited["conditions"].as_array_mut().unwrap().push(other);
        drop(objects);
        reported(&queue, &server)
    };
    server.take_calls();
    reconcile(edited, Arc::clone(&context)).await.unwrap();
    assert_eq!(server.take_writes(), [status]);
    assert_eq!(server.status(), expected);
    reconcile(reported(&queue, &server), context).await.unwrap();
    assert_eq!(server.take_calls(), []);
}

#[tokio::test]
async fn a_cache_that_lags_behind_costs_a_read_and_no_write() {
    let server = Server::default();
    let (context, _writers) = context(&server);
    let queue = queue(json!({}));
    let first = reconcile(Arc::new(queue.clone()), Arc::clone(&context)).await;
    first.unwrap();
    server.take_calls();
    reconcile(reported(&queue, &server), context).await.unwrap();
    assert_eq!(server.take_writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_foreign_object_is_left_alone_and_nothing_is_created_next_to_it() {
    let server = Server::default();
    create_foreign_service(&server);
    let (context, _writers) = context(&server);
    let action = reconcile(Arc::new(queue(json!({}))), context)
        .await
        .unwrap();
    assert_eq!(server.take_writes(), [format!("{PREFIX}/status")]);
    assert_eq!(reason(&server), "NameTaken");
    // No watch reports its deletion.
    assert_eq!(action, Action::requeue(NAME_TAKEN_RECHECK));
}

fn create_foreign_service(server: &Server) -> Value {
    let path = "/api/v1/namespaces/shop/services/my-bot".to_owned();
    let service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "my-bot", "namespace": "shop", "uid": "0666"}});
    let mut objects = server.objects.lock().unwrap();
    objects.insert(path, service.clone());
    service
}

/// As if the Service were created between the read and the create.
fn hide_service_once(server: &Server) {
    *server.hide.lock().unwrap() = Some(("/services/", 404, 1));
}

#[tokio::test]
async fn a_foreign_object_created_just_before_ours_is_left_alone() {
    let server = Server::default();
    let service = create_foreign_service(&server);
    let (context, _writers) = context(&server);
    let queue = Arc::new(queue(json!({})));
    hide_service_once(&server);
    reconcile(Arc::clone(&queue), Arc::clone(&context))
        .await
        .unwrap_err();
    assert_eq!(server.object("services"), service);
    reconcile(queue, context).await.unwrap();
    assert_eq!(reason(&server), "NameTaken");
}

#[tokio::test]
async fn an_object_that_another_operator_just_created_counts_as_created() {
    let server = Server::default();
    let (queue, _, _) = applied(&server).await;
    let made = server.object("services");
    // Its caches are still empty.
    let (other, _writers) = context(&server);
    hide_service_once(&server);
    reconcile(queue, other).await.unwrap();
    assert_eq!(server.object("services"), made);
}

#[tokio::test]
async fn an_edited_child_is_reverted_by_its_uid() {
    let server = Server::default();
    let (queue, context, mut writers) = applied(&server).await;
    put(&mut writers.deployments, edit(&server, "deployments"));
    server.take_calls();
    reconcile(queue, context).await.unwrap();
    let writes = server.take_writes();
    assert_eq!(writes, ["/apis/apps/v1/namespaces/shop/deployments/my-bot"]);
}

#[tokio::test]
async fn an_edit_that_makes_the_apply_invalid_is_overwritten() {
    let server = Server::default();
    let (queue, context, mut writers) = applied(&server).await;
    let edited = edit(&server, "services");
    put_metadata(&mut writers, Kind::Service, edited);
    server.take_calls();
    *server.refuse.lock().unwrap() = Some(("/services/", 422, 1));
    reconcile(queue, context).await.unwrap();
    // The apply is rejected; then overwrite, disown, apply.
    let service = "/api/v1/namespaces/shop/services/my-bot";
    assert_eq!(server.take_writes(), [service; 4]);
}

#[tokio::test]
async fn a_rejected_child_is_reported_and_retried() {
    let server = Server::default();
    *server.refuse.lock().unwrap() = Some(("/services/", 403, 1));
    let (context, _writers) = context(&server);
    let queue = Arc::new(queue(json!({})));
    let error = reconcile(Arc::clone(&queue), Arc::clone(&context))
        .await
        .unwrap_err();
    let condition = server.status()["conditions"][0].clone();
    assert_eq!(condition["reason"], "ChildRefused");
    assert_eq!(
        condition["message"],
        "The API server rejected Service my-bot, which is built from spec.service: it is forbidden \
         here."
    );
    // The Deployment was created nevertheless.
    server.object("deployments");
    assert_ne!(
        retry_later(stored(&queue), &error, context),
        Action::await_change()
    );
}

#[tokio::test]
async fn a_single_failure_of_the_api_server_is_not_reported() {
    let server = Server::default();
    *server.refuse.lock().unwrap() = Some(("/services/", 500, 1));
    let (context, _writers) = context(&server);
    reconcile(Arc::new(queue(json!({}))), context)
        .await
        .unwrap_err();
    let writes = server.take_writes();
    assert!(!writes.contains(&format!("{PREFIX}/status")), "{writes:?}");
}

#[tokio::test]
async fn an_operator_on_standby_makes_no_call() {
    let server = Server::default();
    let (context, _writers) = context(&server);
    let mut context = Arc::into_inner(context).unwrap();
    context.is_leader = watch::channel(false).1;
    let action = reconcile(Arc::new(queue(json!({}))), Arc::new(context)).await;
    assert_eq!(action.unwrap(), Action::await_change());
    assert_eq!(server.take_calls(), []);
}

#[tokio::test(start_paused = true)]
async fn a_reconcile_waits_for_a_permit_shared_with_other_namespaces() {
    let (here, there) = (Server::default(), Server::default());
    let (first, _writers) = context(&here);
    let (second, _more) = context(&there);
    let mut second = Arc::into_inner(second).unwrap();
    second.permits = Arc::clone(&first.permits);
    // The first reconcile has the only permit until its call times out.
    *here.hang.lock().unwrap() = Some("/serviceaccounts/");
    let started = tokio::time::Instant::now();
    let slow = tokio::spawn(reconcile(Arc::new(queue(json!({}))), first));
    tokio::task::yield_now().await;
    let waited = reconcile(Arc::new(queue(json!({}))), Arc::new(second)).await;
    waited.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(10));
    assert!(slow.await.unwrap().is_err());
}

#[tokio::test]
async fn a_queue_that_is_being_deleted_is_not_reconciled() {
    let server = Server::default();
    let (context, _writers) = context(&server);
    let mut queue = queue(json!({}));
    queue.metadata.deletion_timestamp =
        serde_json::from_value(json!("2026-11-23T12:00:00Z")).unwrap();
    reconcile(Arc::new(queue), context).await.unwrap();
    assert_eq!(server.take_calls(), []);
}
