use std::sync::{Mutex, MutexGuard};

use http::Method;
use kube::runtime::reflector::store::Writer;
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
use crate::testing::{after, defaults, mock_client, queue};

use api_server::{Admission, ApiServer};

mod admission;
mod api_server;
mod creation;
mod failures;
mod leadership;
mod logging;
mod orphans;
mod sharing;
mod watching;

const BUDGET: &str = "/apis/policy/v1/namespaces/shop/poddisruptionbudgets/my-bot-queue";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/shop/deployments/my-bot-queue";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/shop/leases/my-bot-queue";
const SERVICE: &str = "/api/v1/namespaces/shop/services/my-bot";
const STATUS: &str = "/apis/gatewayqueue.dev/v1alpha1/namespaces/shop/gatewayqueues/my-bot/status";

/// An operator with a mocked API server and one GatewayQueue.
struct Operator {
    api: Arc<Mutex<ApiServer>>,
    queue: GatewayQueue,
    context: Arc<Context>,
    /// What fills the caches.
    writers: Writers,
    events: Pending,
}

impl Operator {
    /// An operator with an empty API server, which has not reconciled its GatewayQueue yet.
    fn new(spec: Value) -> Self {
        Self::with(Arc::default(), queue(spec))
    }

    /// An operator with this API server. Its caches are empty.
    fn with(api: Arc<Mutex<ApiServer>>, queue: GatewayQueue) -> Self {
        let server = Arc::clone(&api);
        let client = mock_client(move |parts, body| server.lock().unwrap().answer(parts, body));
        let (metrics, _) = Metrics::new(&Arc::default());
        let requests = Requests::new(client, metrics.clone());
        let (caches, writers) = Caches::new();
        let (recorder, events) = EventRecorder::new();
        let context = Context {
            defaults: defaults(),
            applier: Applier {
                requests: requests.clone(),
                caches,
                token_claims: Arc::default(),
                drift_backoff: DriftBackoff::default(),
                events: recorder.clone(),
            },
            status_writer: StatusWriter {
                requests,
                events: recorder,
                last_written: LastWritten::default(),
            },
            backoffs: Backoffs::default(),
            metrics,
            is_leader: watch::channel(true).1,
            permits: Arc::new(Semaphore::new(1)),
        };
        Self {
            api,
            queue,
            context: Arc::new(context),
            writers,
            events,
        }
    }

    /// Another operator, or this one after a restart. Its caches are empty.
    fn restarted(&self) -> Self {
        Self::with(Arc::clone(&self.api), self.queue.clone())
    }

    /// An operator whose children and status are as desired.
    async fn applied() -> Self {
        let mut operator = Self::new(json!({}));
        operator.born();
        operator.settle().await;
        operator.take_calls();
        operator.take_events();
        operator
    }

    /// Reconciles twice, because the status depends on the observed Deployment.
    async fn settle(&mut self) {
        self.reconcile().await.unwrap();
        self.observe();
        self.reconcile().await.unwrap();
    }

    fn api(&self) -> MutexGuard<'_, ApiServer> {
        self.api.lock().unwrap()
    }

    /// The context, before the first reconcile.
    fn context(&mut self) -> &mut Context {
        Arc::get_mut(&mut self.context).unwrap()
    }

    /// Records the GatewayQueue as its watch does when it is created.
    fn born(&self) {
        let claims = &self.context.applier.token_claims;
        claims.saw_live(&stored(&self.queue), Instant::now());
    }

    /// Reconciles the GatewayQueue, which then has the written status.
    async fn reconcile(&mut self) -> Result<Action, Error> {
        let result = reconcile(stored(&self.queue), Arc::clone(&self.context)).await;
        self.observe_status();
        result
    }

    /// The same at a given time.
    async fn reconcile_at(&mut self, now: Instant) -> Action {
        let result = self.context.reconcile(&self.queue, now).await;
        self.observe_status();
        result.unwrap()
    }

    /// The watch of the GatewayQueue returns its status.
    fn observe_status(&mut self) {
        let written = self.api().objects.get(STATUS).cloned();
        if let Some(written) = written {
            self.queue.status = serde_json::from_value(written["status"].clone()).unwrap();
        }
    }

    /// The watches return everything that the API server has.
    fn observe(&mut self) {
        for (kind, plural) in [
            (Kind::ServiceAccount, "serviceaccounts"),
            (Kind::Role, "roles"),
            (Kind::RoleBinding, "rolebindings"),
            (Kind::Service, "services"),
        ] {
            self.put_metadata(kind, self.object(plural));
        }
        let [lease, deployment] = ["leases", "deployments"].map(|plural| self.object(plural));
        put(&mut self.writers.leases, lease);
        put(&mut self.writers.deployments, deployment);
    }

    /// A watch returns an object of a kind of which the cache has only the metadata.
    fn put_metadata(&mut self, kind: Kind, object: Value) {
        put(self.writers.metadata.get_mut(&kind).unwrap(), object);
    }

    /// Another client takes over all fields of the Service.
    fn edit_service(&mut self) {
        let mut edited = self.object("services");
        edited["metadata"]["managedFields"] = json!([]);
        self.put_metadata(Kind::Service, edited);
    }

    fn object(&self, plural: &str) -> Value {
        self.api().object(plural)
    }

    fn has(&self, path: &str) -> bool {
        self.api().objects.contains_key(path)
    }

    /// An object of another owner has the name of a child.
    fn create_foreign(&self, path: &str) -> Value {
        let name = path.rsplit('/').next();
        let foreign = json!({"metadata": {"name": name, "namespace": "shop", "uid": "0666"}});
        let mut api = self.api();
        api.objects.insert(path.to_owned(), foreign.clone());
        foreign
    }

    fn status(&self) -> Value {
        self.api().objects[STATUS]["status"].clone()
    }

    /// A field of the condition `Ready`.
    fn ready(&self, field: &str) -> String {
        let condition = &self.status()["conditions"][0];
        condition[field].as_str().unwrap().to_owned()
    }

    fn reason(&self) -> String {
        self.ready("reason")
    }

    fn take_calls(&self) -> Vec<(Method, String)> {
        std::mem::take(&mut self.api().calls)
    }

    /// The paths of the calls that change something.
    fn take_writes(&self) -> Vec<String> {
        let calls = self.take_calls().into_iter();
        let writes = calls.filter(|(method, _)| *method != Method::GET);
        writes.map(|(_, path)| path).collect()
    }

    /// The reasons of the events since the last call.
    fn take_events(&mut self) -> Vec<&'static str> {
        std::iter::from_fn(|| self.events.try_recv().ok())
            .map(|(_, event)| event.reason.as_str())
            .collect()
    }
}

fn stored(queue: &GatewayQueue) -> Arc<Stored> {
    Arc::new(Stored::Queue(Box::new(queue.clone())))
}

/// A watch returns an object.
fn put<K>(writer: &mut Writer<K>, object: Value)
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + 'static,
    K::DynamicType: Eq + std::hash::Hash + Clone,
{
    let object = serde_json::from_value(object).unwrap();
    writer.apply_watcher_event(&Event::Apply(object));
}

/// An object of the GatewayQueue.
fn child() -> Value {
    let owner = json!({"apiVersion": "v1", "kind": "x", "name": "x", "uid": "0001"});
    json!({"metadata": {"name": "my-bot-queue", "namespace": "shop", "uid": "0042",
        "ownerReferences": [owner]}})
}

/// A pod of the GatewayQueue of this name, with more labels.
fn pod(queue: &str, labels: Value) -> Value {
    let mut pod = json!({"metadata": {
        "name": format!("{queue}-7d9f"), "namespace": "shop", "labels": labels,
    }});
    pod["metadata"]["labels"][desired::INSTANCE] = json!(queue);
    pod
}

#[tokio::test]
async fn a_new_queue_gets_its_children_and_then_its_status() {
    let mut operator = Operator::new(json!({}));
    operator.reconcile().await.unwrap();
    let writes = operator.take_writes();
    let kinds: Vec<&str> = writes
        .iter()
        .map(|path| path.strip_suffix("-queue").unwrap_or(path))
        .map(|path| path.strip_suffix("/my-bot").unwrap_or(path))
        .map(|path| path.rsplit('/').next().unwrap())
        .collect();
    let expected = [
        "serviceaccounts",
        "roles",
        "rolebindings",
        "leases",
        "services",
        "deployments",
        "status",
    ];
    assert_eq!(kinds, expected);
    assert_eq!(operator.reason(), "RolloutInProgress");
}

#[tokio::test]
async fn a_second_reconcile_makes_no_call() {
    let mut operator = Operator::applied().await;
    let action = operator.reconcile().await.unwrap();
    assert_eq!(operator.take_calls(), []);
    assert_eq!(action, Action::await_change());
}

#[tokio::test]
async fn what_others_wrote_into_the_status_is_overwritten_once() {
    let mut operator = Operator::applied().await;
    let expected = operator.status();
    let mut edited = expected.clone();
    edited["leader"] = json!("another");
    edited["sessionStarts"] = json!({"total": 1, "remaining": 1, "resetTime": null});
    let other = json!({"type": "Other", "status": "True", "reason": "Why", "message": "",
        "lastTransitionTime": "2026-11-23T12:00:00Z"});
    edited["conditions"].as_array_mut().unwrap().push(other);
    operator.api().objects.get_mut(STATUS).unwrap()["status"] = edited;
    operator.observe_status();
    operator.reconcile().await.unwrap();
    assert_eq!(operator.take_writes(), [STATUS]);
    assert_eq!(operator.status(), expected);
    operator.reconcile().await.unwrap();
    assert_eq!(operator.take_calls(), []);
}

#[tokio::test]
async fn a_cache_that_lags_behind_costs_reads_after_seconds_and_no_write() {
    let start = Instant::now();
    let mut operator = Operator::new(json!({}));
    operator.reconcile_at(start).await;
    operator.take_calls();
    let action = operator.reconcile_at(after(start, 1)).await;
    assert_eq!(operator.take_calls(), []);
    assert_eq!(action, Action::requeue(Duration::from_secs(4)));
    operator.reconcile_at(after(start, 5)).await;
    assert_eq!(operator.take_calls().len(), 6);
    assert_eq!(operator.take_writes(), [""; 0]);
}

#[tokio::test]
async fn a_foreign_object_is_left_alone_and_nothing_is_created_next_to_it() {
    let mut operator = Operator::new(json!({}));
    operator.create_foreign(SERVICE);
    let action = operator.reconcile().await.unwrap();
    assert_eq!(operator.take_writes(), [STATUS]);
    assert_eq!(operator.reason(), "NameTaken");
    let message = operator.ready("message");
    assert!(message.contains(": Service my-bot."), "{message}");
    // No watch reports its deletion.
    assert_eq!(action, Action::requeue(NAME_TAKEN_RECHECK));
}

#[tokio::test]
async fn a_foreign_object_created_just_before_ours_is_left_alone() {
    let mut operator = Operator::new(json!({}));
    let service = operator.create_foreign(SERVICE);
    // As if it were created between the read and the create.
    operator.api().hide = Some(("/services/", 404, 1));
    operator.reconcile().await.unwrap_err();
    assert_eq!(operator.object("services"), service);
    operator.reconcile().await.unwrap();
    assert_eq!(operator.reason(), "NameTaken");
}

#[tokio::test]
async fn an_object_that_another_operator_just_created_counts_as_created() {
    let mut other = Operator::applied().await.restarted();
    let created = other.object("services");
    other.api().hide = Some(("/services/", 404, 1));
    other.reconcile().await.unwrap();
    assert_eq!(other.object("services"), created);
}

#[tokio::test]
async fn an_edited_child_is_reverted_by_its_uid() {
    let mut operator = Operator::applied().await;
    let mut edited = operator.object("deployments");
    edited["metadata"]["managedFields"] = json!([]);
    put(&mut operator.writers.deployments, edited);
    operator.reconcile().await.unwrap();
    assert_eq!(operator.take_writes(), [DEPLOYMENT]);
}

#[tokio::test]
async fn an_edit_that_makes_the_apply_invalid_is_overwritten() {
    let mut operator = Operator::applied().await;
    operator.edit_service();
    operator.api().refuse = Some(("/services/", 422, 1));
    operator.reconcile().await.unwrap();
    // The apply is rejected; then overwrite, disown, apply.
    assert_eq!(operator.take_writes(), [SERVICE; 4]);
}

#[tokio::test]
async fn a_rejected_child_is_reported_and_retried() {
    let mut operator = Operator::new(json!({}));
    operator.api().refuse = Some(("/services/", 403, 1));
    let error = operator.reconcile().await.unwrap_err();
    assert_eq!(operator.reason(), "ChildRefused");
    assert_eq!(
        operator.ready("message"),
        "The API server rejected Service my-bot, which is built from spec.service: it is forbidden \
         here."
    );
    // The Deployment was created nevertheless.
    assert!(operator.has(DEPLOYMENT));
    let action = retry_later(stored(&operator.queue), &error, operator.context);
    assert_ne!(action, Action::await_change());
}

#[tokio::test]
async fn an_operator_on_standby_makes_no_call() {
    let mut operator = Operator::new(json!({}));
    operator.context().is_leader = watch::channel(false).1;
    let action = operator.reconcile().await.unwrap();
    assert_eq!(action, Action::await_change());
    assert_eq!(operator.take_calls(), []);
}

#[tokio::test(start_paused = true)]
async fn a_reconcile_waits_for_a_permit_shared_with_other_namespaces() {
    let (mut first, mut second) = (Operator::new(json!({})), Operator::new(json!({})));
    second.context().permits = Arc::clone(&first.context.permits);
    // The first reconcile has the only permit until its call times out.
    first.api().hang = Some("/serviceaccounts/");
    let started = tokio::time::Instant::now();
    let slow = tokio::spawn(async move { first.reconcile().await.is_err() });
    tokio::task::yield_now().await;
    second.reconcile().await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(10));
    assert!(slow.await.unwrap());
}

#[tokio::test]
async fn a_queue_that_is_being_deleted_is_not_reconciled() {
    let mut operator = Operator::new(json!({}));
    operator.queue.metadata.deletion_timestamp =
        serde_json::from_value(json!("2026-11-23T12:00:00Z")).unwrap();
    operator.reconcile().await.unwrap();
    assert_eq!(operator.take_calls(), []);
}
