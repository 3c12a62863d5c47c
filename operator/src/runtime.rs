//! Assembles the operator and runs it until a signal.

use std::sync::Arc;
use std::time::Duration;

use gateway_queue_telemetry::Format;
use kube::Config;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::JoinMap;

use crate::api::LogFormat;
use crate::apply::applier::Applier;
use crate::apply::drift_backoff::DriftBackoff;
use crate::apply::requests::Requests;
use crate::cli::settings::Settings;
use crate::controller::{CONCURRENCY, controller};
use crate::events::{self, EventRecorder};
use crate::kube_client::Clients;
use crate::metrics::Metrics;
use crate::observe::token_claims::TokenClaims;
use crate::observe::watch_health::WatchHealth;
use crate::observe::watch_stream::Scope;
use crate::observe::watches::{Trigger, watch_children};
use crate::readiness::Readiness;
use crate::reconcile::Context;
use crate::reconcile::backoff::Backoffs;
use crate::status::last_written::LastWritten;
use crate::status::writer::StatusWriter;
use crate::{BoxError, admin, leader_election};

/// How long reconciles may run after a signal: less than the 30 s that Kubernetes gives a pod.
const DRAIN: Duration = Duration::from_secs(20);

/// The operator mostly waits. A second thread costs 8 % more processor time, because they wake
/// each other up, and the allocator gives each thread memory of its own.
const WORKER_THREADS: usize = 1;

/// Targets of kube that repeat what the operator logs with its cause: each failed call, and
/// each failing watch once.
const REPETITIVE: [&str; 2] = ["kube_client::client::builder", "kube_runtime::watcher"];

/// Tasks by name, which run until they are dropped.
type Tasks = JoinMap<String, ()>;

/// Runs the operator until SIGTERM or SIGINT.
///
/// # Errors
/// If there is no cluster, or the admin port is not available.
pub fn run(settings: Settings) -> Result<(), BoxError> {
    let format = match settings.log_format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    gateway_queue_telemetry::start(format, &settings.log_filter, &REPETITIVE)?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()?
        .block_on(serve(settings))
}

async fn serve(settings: Settings) -> Result<(), BoxError> {
    let Settings {
        defaults,
        watch_namespaces,
        election,
        admin_port,
        log_format: _,
        log_filter: _,
    } = settings;
    let stop = stop_on_signal()?;
    let health = Arc::<WatchHealth>::default();
    let clients = Clients::of(Config::infer().await?, &health)?;
    let client = clients.work;
    let listener = admin::listen(admin_port)
        .await
        .map_err(|error| format!("cannot listen on the admin port {admin_port}: {error}"))?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        queue_image = defaults.image,
        admin_port,
        namespaces = watch_namespaces.join(","),
        "starting"
    );
    let (metrics, registry) = Metrics::new(&health);
    let mut readiness = Readiness::of(Arc::clone(&health));
    let mut tasks = Tasks::new();
    let (events, pending) = EventRecorder::new();
    let instance = std::env::var("POD_NAME").ok();
    let publishing = events::publish(client.clone(), instance, pending);
    tasks.spawn("event recorder".to_owned(), publishing);

    let permits = Arc::new(Semaphore::new(usize::from(CONCURRENCY)));
    let mut controllers = Tasks::new();
    // Another operator becomes the leader only after the controllers of this one have ended.
    let idle = CancellationToken::new();
    let mut elections = Tasks::new();
    let mut scopes: Vec<Option<String>> = watch_namespaces.into_iter().map(Some).collect();
    if scopes.is_empty() {
        scopes.push(None);
    }
    for namespace in scopes {
        let place = namespace.as_ref().map_or_else(
            || "all namespaces".to_owned(),
            |namespace| format!("namespace {namespace}"),
        );
        let scope = Scope {
            client: client.clone(),
            namespace,
            health: Arc::clone(&health),
        };
        let scope_health = readiness.add(scope.name());
        let token_claims = Arc::<TokenClaims>::default();
        let (caches, triggered) = watch_children(&scope, &token_claims, &mut tasks);
        let (leads, is_leader) = watch::channel(election.is_none());
        let following = reconcile_all_on_change(
            is_leader.clone(),
            health.recoveries(),
            triggered.trigger.clone(),
            scope.name().to_owned(),
            metrics.clone(),
        );
        tasks.spawn(format!("leadership observer of {place}"), following);
        let has_leader = metrics.has_leader(scope.name());
        if let Some(election) = &election {
            let candidacy = election.candidacy(scope.namespace.as_deref());
            let publish = leader_election::Publish {
                leads,
                has_leader,
                health: Arc::clone(&scope_health),
            };
            let client = clients.election.clone();
            let campaign = leader_election::run(client, candidacy, publish, idle.clone());
            elections.spawn(format!("election for {place}"), campaign);
        } else {
            scope_health.election_works();
            has_leader.set(1);
        }
        let requests = Requests::new(client.clone(), metrics.clone());
        let context = Arc::new(Context {
            defaults: defaults.clone(),
            applier: Applier {
                requests: requests.clone(),
                caches: caches.clone(),
                token_claims,
                drift_backoff: DriftBackoff::default(),
                events: events.clone(),
            },
            status_writer: StatusWriter {
                requests,
                events: events.clone(),
                last_written: LastWritten::default(),
            },
            backoffs: Backoffs::default(),
            metrics: metrics.clone(),
            is_leader,
            permits: Arc::clone(&permits),
        });
        let stop = stop.clone();
        let namespace = scope.namespace.clone();
        let listed = move || {
            scope_health.filled();
            tracing::info!(namespace, "caches filled");
        };
        let run = controller(&scope, triggered, context, stop.clone(), listed);
        controllers.spawn(format!("controller of {place}"), async move {
            // Before the children are listed, each would seem to be missing.
            let filled = stop.run_until_cancelled(caches.wait_until_ready()).await;
            if let Some(Ok(())) = filled {
                run.await;
            }
        });
    }
    let serving = admin::serve(listener, Arc::new(readiness), registry);
    tasks.spawn("admin port".to_owned(), serving);
    let fault = tokio::select! {
        fault = all_exited(&mut controllers, &stop) => fault,
        Some(fault) = exited(&mut tasks) => Some(fault),
        Some(fault) = exited(&mut elections) => Some(fault),
        () = drained(&stop) => {
            tracing::warn!("reconciles aborted");
            None
        }
    };
    controllers.shutdown().await;
    idle.cancel();
    while exited(&mut elections).await.is_some() {}
    match fault {
        None => {
            tracing::info!("stopped");
            Ok(())
        }
        Some(fault) => Err(fault.into()),
    }
}

/// Waits for the next task that exits, and describes it; none if there are no more.
async fn exited(tasks: &mut Tasks) -> Option<String> {
    let (name, result) = tasks.join_next().await?;
    let cause = result.map_or_else(|error| error.to_string(), |()| "it returned".to_owned());
    Some(format!("task {name} exited unexpectedly: {cause}"))
}

/// Waits until all controllers have exited, as they do after `stop`. Describes one that exited
/// before.
async fn all_exited(controllers: &mut Tasks, stop: &CancellationToken) -> Option<String> {
    while let Some(fault) = exited(controllers).await {
        if !stop.is_cancelled() {
            return Some(fault);
        }
    }
    None
}

/// Triggers the reconciles of all GatewayQueues of a scope when this operator becomes its
/// leader, because it ignored all changes on standby; and when all watches work again, because
/// what failed meanwhile need not wait for its next attempt.
async fn reconcile_all_on_change(
    mut is_leader: watch::Receiver<bool>,
    mut recoveries: watch::Receiver<u64>,
    trigger: Trigger,
    scope: String,
    metrics: Metrics,
) {
    loop {
        let leads = *is_leader.borrow_and_update();
        metrics.leads(&scope, leads);
        if leads {
            trigger.all();
        }
        tokio::select! {
            // Without an election, this never changes.
            Ok(()) = is_leader.changed() => {}
            Ok(()) = recoveries.changed() => {}
            else => std::future::pending().await,
        }
    }
}

async fn drained(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(DRAIN).await;
}

/// Returns a token that the first SIGTERM or SIGINT cancels. The second one ends the process
/// immediately.
fn stop_on_signal() -> Result<CancellationToken, BoxError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    let first = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if first.is_cancelled() {
                std::process::exit(1);
            }
            tracing::info!("stopping");
            first.cancel();
        }
    });
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use kube::Client;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::observe::watches::Triggered;

    #[tokio::test]
    async fn a_task_that_exits_or_panics_is_named_with_the_cause() {
        let mut tasks = Tasks::new();
        assert_eq!(exited(&mut tasks).await, None);
        tasks.spawn("idle".to_owned(), std::future::pending());
        tasks.spawn("admin port".to_owned(), std::future::ready(()));
        let fault = exited(&mut tasks).await.unwrap();
        assert_eq!(fault, "task admin port exited unexpectedly: it returned");
        tasks.spawn("election".to_owned(), async { panic!("on purpose") });
        let fault = exited(&mut tasks).await.unwrap();
        assert!(fault.starts_with("task election exited"), "{fault}");
        assert!(fault.contains("on purpose"), "{fault}");
    }

    #[tokio::test]
    async fn a_controller_that_exits_is_reported_unless_the_operator_stops() {
        let stop = CancellationToken::new();
        let mut controllers = Tasks::new();
        controllers.spawn("a".to_owned(), stop.clone().cancelled_owned());
        controllers.spawn("b".to_owned(), std::future::ready(()));
        let fault = all_exited(&mut controllers, &stop).await.unwrap();
        assert!(fault.starts_with("task b exited"), "{fault}");
        stop.cancel();
        assert_eq!(all_exited(&mut controllers, &stop).await, None);
    }

    /// The observer of the leadership of a scope, and the reconciles that it triggers.
    fn observer(
        leading: watch::Receiver<bool>,
        recoveries: watch::Receiver<u64>,
    ) -> (JoinHandle<()>, Triggered) {
        let scope = Scope {
            client: Client::try_from(Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap(),
            namespace: None,
            health: Arc::default(),
        };
        let (_, triggered) = watch_children(&scope, &Arc::default(), &mut Tasks::new());
        let trigger = triggered.trigger.clone();
        let (metrics, _) = Metrics::new(&Arc::default());
        let observing =
            reconcile_all_on_change(leading, recoveries, trigger, "*".to_owned(), metrics);
        (tokio::spawn(observing), triggered)
    }

    #[tokio::test]
    async fn all_queues_are_reconciled_when_this_operator_leads_and_when_watches_recover() {
        let (leads, leading) = watch::channel(false);
        let (recovered, recoveries) = watch::channel(0);
        let (_, mut triggered) = observer(leading, recoveries);
        recovered.send_replace(1);
        tokio::task::yield_now().await;
        assert!(triggered.all.try_recv().is_err(), "on standby");
        leads.send_replace(true);
        triggered.all.next().await.unwrap();
        recovered.send_replace(2);
        triggered.all.next().await.unwrap();
    }

    #[tokio::test]
    async fn without_an_election_the_operator_remains_the_leader() {
        let (leads, leading) = watch::channel(true);
        drop(leads);
        let (recovered, recoveries) = watch::channel(0);
        let (observing, mut triggered) = observer(leading, recoveries);
        triggered.all.next().await.unwrap();
        recovered.send_replace(1);
        triggered.all.next().await.unwrap();
        drop(recovered);
        tokio::task::yield_now().await;
        assert!(!observing.is_finished(), "it ended");
    }
}
