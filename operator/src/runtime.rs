//! Puts the parts together and runs them until a signal.

use std::sync::Arc;
use std::time::Duration;

use gateway_queue_telemetry::Format;
use kube::Config;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::LogFormat;
use crate::apply::drift_backoff::DriftBackoff;
use crate::apply::requests::Cluster;
use crate::cli::settings::Settings;
use crate::controller::{CONCURRENCY, controller};
use crate::events::recorder::{self, Events};
use crate::kube_client::Clients;
use crate::metrics::Metrics;
use crate::observe::token_claims::TokenClaims;
use crate::observe::watch_health::WatchHealth;
use crate::observe::watches::{Scope, Tell, watch_children};
use crate::readiness::Readiness;
use crate::reconcile::Context;
use crate::reconcile::backoff::Backoffs;
use crate::reconcile::last_written::LastWritten;
use crate::tasks::Tasks;
use crate::{BoxError, admin, leader_election};

/// How long reconciles may go on after a signal: less than the 30 seconds that
/// Kubernetes gives a pod.
const DRAIN: Duration = Duration::from_secs(20);

/// Targets of kube that repeat what the operator logs with its cause: each failed call, and
/// each failing watch once.
const REPETITIVE: [&str; 2] = ["kube_client::client::builder", "kube_runtime::watcher"];

/// Runs the operator until SIGTERM or SIGINT.
///
/// # Errors
/// When there is no cluster to talk to, or the admin port cannot be had.
pub fn run(settings: Settings) -> Result<(), BoxError> {
    let format = match settings.log_format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    gateway_queue_telemetry::start(format, &settings.log_filter, &REPETITIVE)?;
    tokio::runtime::Builder::new_multi_thread()
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
    let scopes: Vec<Option<String>> = match watch_namespaces.is_empty() {
        true => vec![None],
        false => watch_namespaces.into_iter().map(Some).collect(),
    };
    let (metrics, registry) = Metrics::new(&health);
    let mut readiness = Readiness::of(Arc::clone(&health));
    let listener = admin::listen(admin_port)
        .await
        .map_err(|error| format!("cannot listen on the admin port {admin_port}: {error}"))?;
    // Whatever is in here ends with this function, and not before.
    let mut parts = Tasks::default();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        queue_image = defaults.image,
        admin_port,
        namespaces = scopes
            .iter()
            .flatten()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(","),
        "starting"
    );

    let (events, notes) = Events::new();
    let instance = std::env::var("POD_NAME").ok();
    let publishing = recorder::publish(client.clone(), instance, notes);
    parts.run("event recorder", publishing);
    let places = Arc::new(Semaphore::new(usize::from(CONCURRENCY)));
    let mut controllers = Tasks::default();
    // The next operator is the leader when this one has done nothing any more.
    let idle = CancellationToken::new();
    let mut standing = Tasks::default();
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
        let mut watches = JoinSet::new();
        let token_claims = Arc::<TokenClaims>::default();
        let (caches, triggers) = watch_children(&scope, &token_claims, &mut watches);
        parts.run_all(format!("watch of {place}"), watches);
        let (leads, leading) = watch::channel(election.is_none());
        let following = follow(
            leading.clone(),
            health.recoveries(),
            triggers.tell.clone(),
            scope.name().to_owned(),
            metrics.clone(),
        );
        parts.run(format!("leadership observer of {place}"), following);
        let has_leader = metrics.has_leader(scope.name());
        if let Some(election) = &election {
            let candidacy = election.candidacy(scope.namespace.as_deref());
            let publish = leader_election::Publish {
                leads,
                has_leader,
                health: Arc::clone(&scope_health),
            };
            let client = clients.election.clone();
            let campaign = leader_election::stand(client, candidacy, publish, idle.clone());
            standing.run(format!("election for {place}"), campaign);
        } else {
            scope_health.election_works();
            has_leader.set(1);
        }
        let context = Arc::new(Context {
            cluster: Cluster::new(client.clone(), metrics.clone()),
            caches: caches.clone(),
            token_claims,
            defaults: defaults.clone(),
            backoffs: Backoffs::default(),
            drift_backoff: DriftBackoff::default(),
            last_written: LastWritten::default(),
            events: events.clone(),
            metrics: metrics.clone(),
            works: leading,
            places: Arc::clone(&places),
        });
        let stop = stop.clone();
        let of = scope.namespace.clone();
        let listed = move || {
            scope_health.filled();
            tracing::info!(namespace = of, "the caches are filled");
        };
        let run = controller(&scope, triggers, context, stop.clone(), listed);
        controllers.run(format!("controller of {place}"), async move {
            // Before the children are known, each would seem to be missing.
            let filled = stop.run_until_cancelled(caches.wait_until_ready()).await;
            if let Some(Ok(())) = filled {
                run.await;
            }
        });
    }
    let serving = admin::serve(listener, Arc::new(readiness), registry);
    parts.run("admin port", serving);
    let fault = tokio::select! {
        fault = all_end(&mut controllers, &stop) => fault,
        Some(ended) = parts.next_end() => Some(ended),
        Some(ended) = standing.next_end() => Some(ended),
        () = too_long(&stop) => {
            tracing::warn!("reconciles were cut off");
            None
        }
    };
    controllers.end().await;
    idle.cancel();
    while standing.next_end().await.is_some() {}
    match fault {
        None => {
            tracing::info!("stopped");
            Ok(())
        }
        Some(fault) => Err(fault.into()),
    }
}

/// Waits until all controllers have ended, as they do after `stop`. What to say of
/// one that ended before.
async fn all_end(controllers: &mut Tasks, stop: &CancellationToken) -> Option<String> {
    while let Some(ended) = controllers.next_end().await {
        if !stop.is_cancelled() {
            return Some(ended);
        }
    }
    None
}

/// Has every GatewayQueue of a scope reconciled when this operator becomes its leader,
/// since it has left to the other what it saw on standby; and when watches work again
/// that failed: what failed meanwhile need not wait until its next attempt is due.
async fn follow(
    mut leading: watch::Receiver<bool>,
    mut recoveries: watch::Receiver<u64>,
    tell: Tell,
    scope: String,
    metrics: Metrics,
) {
    loop {
        let leads = *leading.borrow_and_update();
        metrics.leads(&scope, leads);
        if leads {
            tell.all();
        }
        tokio::select! {
            // Without an election this operator is the leader for good.
            Ok(()) = leading.changed() => {}
            Ok(()) = recoveries.changed() => {}
            else => std::future::pending().await,
        }
    }
}

async fn too_long(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(DRAIN).await;
}

/// A token that the first SIGTERM or SIGINT cancels. The second one ends the
/// process at once.
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
            tracing::info!("stopping; a second signal ends at once");
            first.cancel();
        }
    });
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use kube::Client;

    use super::*;
    use crate::observe::watches::Triggers;

    #[tokio::test]
    async fn one_controller_of_several_that_ends_is_named_but_not_after_the_signal() {
        let stop = CancellationToken::new();
        let mut controllers = Tasks::default();
        controllers.run("controller of a", stop.clone().cancelled_owned());
        controllers.run("controller of b", std::future::ready(()));
        let ended = Some("task controller of b exited unexpectedly: it returned".to_owned());
        assert_eq!(all_end(&mut controllers, &stop).await, ended);
        stop.cancel();
        assert_eq!(all_end(&mut controllers, &stop).await, None);
    }

    /// What makes the controller look again, beside what tells it to.
    fn tell() -> (Tell, Triggers) {
        let scope = Scope {
            client: Client::try_from(Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap(),
            namespace: None,
            health: Arc::default(),
        };
        let (_, triggers) = watch_children(&scope, &Arc::default(), &mut JoinSet::new());
        (triggers.tell.clone(), triggers)
    }

    #[tokio::test]
    async fn all_are_reconciled_when_this_operator_leads_and_when_watches_recover() {
        let (tell, mut triggers) = tell();
        let (leads, leading) = watch::channel(false);
        let (recovered, recoveries) = watch::channel(0);
        let (metrics, _) = Metrics::new(&Arc::default());
        let following = follow(leading, recoveries, tell, "*".to_owned(), metrics);
        tokio::spawn(following);
        recovered.send_replace(1);
        tokio::task::yield_now().await;
        assert!(triggers.all.try_recv().is_err(), "on standby");
        leads.send_replace(true);
        triggers.all.next().await.unwrap();
        recovered.send_replace(2);
        triggers.all.next().await.unwrap();
    }

    #[tokio::test]
    async fn an_operator_without_an_election_is_the_leader_for_good() {
        let (tell, mut triggers) = tell();
        let (leads, leading) = watch::channel(true);
        drop(leads);
        let (recovered, recoveries) = watch::channel(0);
        let (metrics, _) = Metrics::new(&Arc::default());
        let following = follow(leading, recoveries, tell, "*".to_owned(), metrics);
        let following = tokio::spawn(following);
        triggers.all.next().await.unwrap();
        recovered.send_replace(1);
        triggers.all.next().await.unwrap();
        drop(recovered);
        tokio::task::yield_now().await;
        assert!(!following.is_finished(), "it ended");
    }
}
