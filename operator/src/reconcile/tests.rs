use http::{Method, Request, Response};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::client::Body;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::apply::drift_backoff::DriftBackoff;
use crate::apply::requests::Cluster;
use crate::controller::{controller, retry_later};
use crate::desired::QueueDefaults;
use crate::events::recorder::{Events, Note};
use crate::metrics::Metrics;
use crate::observe::caches::{Caches, Writers};
use crate::observe::watches::Scope;
use crate::reconcile::backoff::Backoffs;
use crate::reconcile::last_written::LastWritten;

mod admission;
mod failures;
mod leadership;
mod logging;
mod orphans;
mod server;
mod sharing;
mod watching;

use server::{Admission, PREFIX, Server};

fn queue(spec: Value) -> GatewayQueue {
    serde_json::from_value(json!({
        "apiVersion": "gatewayqueue.dev/v1alpha1",
        "kind": "GatewayQueue",
        "metadata": {"name": "my-bot", "namespace": "shop", "uid": "0001", "generation": 1},
        "spec": spec,
    }))
    .unwrap()
}

fn stored(queue: &GatewayQueue) -> Arc<Stored> {
    Arc::new(Stored::Queue(Box::new(queue.clone())))
}

async fn reconcile(queue: Arc<GatewayQueue>, context: Arc<Context>) -> Result<Action, Error> {
    super::reconcile(stored(&queue), context).await
}

/// Notes a GatewayQueue as its watch does when it was just made.
fn born(context: &Context, queue: &GatewayQueue) {
    context
        .token_claims
        .saw_live(&stored(queue), Instant::now());
}

/// Whether this operator works, for good.
fn works(works: bool) -> watch::Receiver<bool> {
    watch::channel(works).1
}

/// A context whose calls go to `server`, with what fills its stores.
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
    let (caches, writers) = Caches::new();
    let (events, notes) = Events::new();
    *server.notes.lock().unwrap() = Some(notes);
    let context = Context {
        cluster: Cluster::new(Client::new(service, "default"), metrics.clone()),
        caches,
        token_claims: Arc::default(),
        defaults: QueueDefaults {
            image: "gateway-queue:1".to_owned(),
            image_pull_policy: None,
            image_pull_secrets: Vec::new(),
        },
        backoffs: Backoffs::default(),
        drift_backoff: DriftBackoff::default(),
        last_written: LastWritten::default(),
        events,
        metrics,
        works: works(true),
        places: Arc::new(Semaphore::new(1)),
    };
    (Arc::new(context), writers)
}

/// What a watch brings.
fn put<K>(writer: &mut kube::runtime::reflector::store::Writer<K>, object: Value)
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + 'static,
{
    let object = serde_json::from_value(object).unwrap();
    writer.apply_watcher_event(&Event::Apply(object));
}

/// A pod of the GatewayQueue of this name, with more labels.
fn pod(queue: &str, labels: Value) -> Value {
    let mut pod = json!({"metadata": {
        "name": format!("{queue}-7d9f"), "namespace": "shop", "labels": labels,
    }});
    pod["metadata"]["labels"][desired::INSTANCE] = json!(queue);
    pod
}

/// What the watches would bring: everything that the server has by now.
fn observe(server: &Server, writers: &mut Writers) {
    let Writers {
        service_accounts,
        roles,
        role_bindings,
        services,
        disruption_budgets: _,
        network_policies: _,
        leases,
        deployments,
        pods: _,
    } = writers;
    put(service_accounts, server.object("serviceaccounts"));
    put(roles, server.object("roles"));
    put(role_bindings, server.object("rolebindings"));
    put(services, server.object("services"));
    put(leases, server.object("leases"));
    put(deployments, server.object("deployments"));
}

/// The queue as it is after its status was written.
fn reported(queue: &GatewayQueue, server: &Server) -> Arc<GatewayQueue> {
    let mut queue = queue.clone();
    queue.status = serde_json::from_value(server.status()).unwrap();
    Arc::new(queue)
}

/// A queue whose children and status are as they shall be. The calls that are
/// left are those of its first reconcile.
async fn applied(server: &Server) -> (Arc<GatewayQueue>, Arc<Context>, Writers) {
    let (context, mut writers) = context(server);
    let queue = queue(json!({}));
    born(&context, &queue);
    reconcile(Arc::new(queue.clone()), Arc::clone(&context))
        .await
        .unwrap();
    let first = server.take_calls();
    observe(server, &mut writers);
    // Now that the Deployment is seen, the status can say how it fares.
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
    assert_eq!(
        server.status()["conditions"][0]["reason"],
        "RolloutInProgress"
    );
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
async fn what_others_wrote_into_the_status_goes_and_then_all_is_quiet() {
    let server = Server::default();
    let (queue, context, _writers) = applied(&server).await;
    let expected = server.status();
    let status = format!("{PREFIX}/status");
    let edited = {
        let mut objects = server.objects.lock().unwrap();
        let edited = &mut objects.get_mut(&status).unwrap()["status"];
        edited["leader"] = json!("somebody");
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
async fn a_store_that_lags_behind_costs_a_look_and_no_write() {
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
async fn a_strangers_object_is_left_alone_and_nothing_is_made_beside_it() {
    let server = Server::default();
    put_a_strangers_service(&server);
    let (context, _writers) = context(&server);
    let action = reconcile(Arc::new(queue(json!({}))), context)
        .await
        .unwrap();
    assert_eq!(server.take_writes(), [format!("{PREFIX}/status")]);
    let condition = server.status()["conditions"][0].clone();
    assert_eq!(condition["reason"], "NameTaken");
    assert!(
        condition["message"]
            .as_str()
            .unwrap()
            .contains("my-bot: Service.")
    );
    // It is looked for again, since nothing tells when it goes.
    assert_eq!(action, Action::requeue(NAME_TAKEN_AGAIN));
}

fn put_a_strangers_service(server: &Server) -> Value {
    let path = "/api/v1/namespaces/shop/services/my-bot".to_owned();
    let service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "my-bot", "namespace": "shop", "uid": "0666"}});
    let mut objects = server.objects.lock().unwrap();
    objects.insert(path, service.clone());
    service
}

/// As if the Service were made between the look and the create.
fn is_not_seen_at_first(server: &Server) {
    *server.hide.lock().unwrap() = Some(("/services/", 404, 1));
}

#[tokio::test]
async fn what_a_stranger_makes_in_the_moment_before_a_create_is_not_touched() {
    let server = Server::default();
    let service = put_a_strangers_service(&server);
    let (context, _writers) = context(&server);
    let queue = Arc::new(queue(json!({})));
    is_not_seen_at_first(&server);
    reconcile(Arc::clone(&queue), Arc::clone(&context))
        .await
        .unwrap_err();
    assert_eq!(server.object("services"), service);
    reconcile(queue, context).await.unwrap();
    assert_eq!(server.status()["conditions"][0]["reason"], "NameTaken");
}

#[tokio::test]
async fn what_another_operator_makes_in_that_moment_is_taken_as_made() {
    let server = Server::default();
    let (queue, _, _) = applied(&server).await;
    let made = server.object("services");
    // One whose caches are empty yet.
    let (other, _writers) = context(&server);
    is_not_seen_at_first(&server);
    reconcile(queue, other).await.unwrap();
    assert_eq!(server.object("services"), made);
}

#[tokio::test]
async fn a_child_that_was_changed_is_put_back_by_its_uid() {
    let server = Server::default();
    let (queue, context, mut writers) = applied(&server).await;
    let mut edited = server.object("deployments");
    edited["metadata"]["managedFields"] = json!([]);
    let edited = serde_json::from_value(edited).unwrap();
    writers
        .deployments
        .apply_watcher_event(&Event::Apply(edited));
    server.take_calls();
    reconcile(queue, context).await.unwrap();
    let writes = server.take_writes();
    assert_eq!(writes, ["/apis/apps/v1/namespaces/shop/deployments/my-bot"]);
}

#[tokio::test]
async fn a_list_that_someone_made_invalid_is_replaced_as_a_whole() {
    let server = Server::default();
    let (queue, context, mut writers) = applied(&server).await;
    let mut edited = server.object("services");
    edited["metadata"]["managedFields"] = json!([]);
    let edited = serde_json::from_value(edited).unwrap();
    writers.services.apply_watcher_event(&Event::Apply(edited));
    server.take_calls();
    *server.refuse.lock().unwrap() = Some(("/services/", 422, 1));
    reconcile(queue, context).await.unwrap();
    // Refused, replaced, disowned as what it was replaced by, applied.
    let service = "/api/v1/namespaces/shop/services/my-bot";
    assert_eq!(server.take_writes(), [service; 4]);
}

#[tokio::test]
async fn a_refused_child_is_told_and_tried_again() {
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
        "The API server refuses the Service (made of spec.service): it is forbidden here"
    );
    // The Deployment is there all the same.
    server.object("deployments");
    assert_ne!(
        retry_later(stored(&queue), &error, context),
        Action::await_change()
    );
}

#[tokio::test]
async fn a_fault_of_the_api_server_leaves_the_status_as_it_is() {
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
async fn an_operator_that_stands_by_makes_no_call() {
    let server = Server::default();
    let (context, _writers) = context(&server);
    let mut context = Arc::into_inner(context).unwrap();
    context.works = works(false);
    let action = reconcile(Arc::new(queue(json!({}))), Arc::new(context)).await;
    assert_eq!(action.unwrap(), Action::await_change());
    assert_eq!(server.take_calls(), []);
}

#[tokio::test(start_paused = true)]
async fn a_reconcile_waits_for_a_place_that_those_of_other_namespaces_share() {
    let (here, there) = (Server::default(), Server::default());
    let (first, _writers) = context(&here);
    let (second, _more) = context(&there);
    let mut second = Arc::into_inner(second).unwrap();
    second.places = Arc::clone(&first.places);
    // The one place there is is taken until the first has given up.
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
async fn a_queue_that_is_being_deleted_is_left_to_go() {
    let server = Server::default();
    let (context, _writers) = context(&server);
    let mut queue = queue(json!({}));
    queue.metadata.deletion_timestamp =
        serde_json::from_value(json!("2026-11-23T12:00:00Z")).unwrap();
    reconcile(Arc::new(queue), context).await.unwrap();
    assert_eq!(server.take_calls(), []);
}
