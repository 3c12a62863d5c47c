//! Puts the parts together and runs them until a signal.

use std::sync::Arc;
use std::time::Duration;

use gateway_queue_telemetry::{Format, Service};
use kube::Config;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Readiness};
use crate::api::LogFormat;
use crate::apply::Cluster;
use crate::backoff::Backoffs;
use crate::client::Clients;
use crate::controller::{CONCURRENCY, Context, controller};
use crate::election;
use crate::events::{self, Events};
use crate::metrics::Metrics;
use crate::observe::{Tell, watch_children};
use crate::parts::Parts;
use crate::repairs::Repairs;
use crate::settings::Settings;
use crate::tokens::Tokens;
use crate::told::Told;

/// Any error that ends the operator.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long reconciles may go on after a signal: less than the 30 seconds that
/// Kubernetes gives a pod.
const DRAIN: Duration = Duration::from_secs(20);

/// Runs the operator until SIGTERM or SIGINT.
///
/// # Errors
/// When there is no cluster to talk to, or the admin port cannot be had.
pub fn run(settings: Settings) -> Result<(), BoxError> {
    let service = Service {
        name: "gateway-queue-operator",
        version: env!("CARGO_PKG_VERSION"),
        crates: &["gateway_queue_operator"],
        // Each failed call is told with what it was for.
        quiet: &["kube_client::client::builder"],
    };
    let format = match settings.log_format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    // Traces are exported until the end of this.
    let _telemetry = gateway_queue_telemetry::start(service, format, &settings.log_filter)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(serve(settings))
}

async fn serve(settings: Settings) -> Result<(), BoxError> {
    let Settings {
        defaults,
        watch_namespaces,
        candidacy,
        admin_port,
        log_format: _,
        log_filter: _,
    } = settings;
    let stop = stop_on_signal()?;
    let Clients {
        work: client,
        election,
    } = Clients::of(Config::infer().await?)?;
    let scopes: Vec<Option<String>> = match watch_namespaces.is_empty() {
        true => vec![None],
        false => watch_namespaces.into_iter().map(Some).collect(),
    };
    let (metrics, registry) = Metrics::new();
    let readiness = Arc::new(Readiness::of(scopes.len()));
    let listener = admin::listen(admin_port)
        .await
        .map_err(|error| format!("cannot listen on the admin port {admin_port}: {error}"))?;
    // Whatever is in here ends with this function, and not before.
    let mut parts = Parts::default();
    let serving = admin::serve(listener, Arc::clone(&readiness), registry);
    parts.run("admin port", serving);
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
    let publishing = events::publish(client.clone(), instance, notes);
    parts.run("event recorder", publishing);
    let (works, turn) = watch::channel(candidacy.is_none());
    let places = Arc::new(Semaphore::new(usize::from(CONCURRENCY)));
    let mut controllers = Parts::default();
    let mut tells = Vec::new();
    for namespace in scopes {
        let namespace = namespace.as_deref();
        let place = namespace.map_or_else(
            || "all namespaces".to_owned(),
            |namespace| format!("namespace {namespace}"),
        );
        let mut watches = JoinSet::new();
        let tokens = Arc::<Tokens>::default();
        let (stores, triggers) = watch_children(&client, namespace, &tokens, &mut watches);
        parts.run_all(format!("watch of {place}"), watches);
        tells.push(triggers.tell.clone());
        let context = Arc::new(Context {
            cluster: Cluster::new(client.clone(), metrics.clone()),
            stores: stores.clone(),
            tokens,
            defaults: defaults.clone(),
            backoffs: Backoffs::default(),
            repairs: Repairs::default(),
            told: Told::default(),
            events: events.clone(),
            metrics: metrics.clone(),
            works: turn.clone(),
            places: Arc::clone(&places),
        });
        let (readiness, stop) = (Arc::clone(&readiness), stop.clone());
        let of = namespace.map(str::to_owned);
        let listed = move || {
            readiness.filled();
            tracing::info!(namespace = of, "the caches are filled");
        };
        let run = controller(
            client.clone(),
            namespace,
            triggers,
            context,
            stop.clone(),
            listed,
        );
        controllers.run(format!("controller of {place}"), async move {
            // Before the children are known, each would seem to be missing.
            let filled = stop.run_until_cancelled(stores.wait_until_ready()).await;
            if let Some(Ok(())) = filled {
                run.await;
            }
        });
    }
    parts.run("leadership observer", follow(turn, tells, metrics));
    // The next operator's turn comes when this one has done nothing any more.
    let idle = CancellationToken::new();
    let mut standing = Parts::default();
    if let Some(candidacy) = candidacy {
        let election = election::stand(election, candidacy, works, idle.clone());
        standing.run("election", election);
    }
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
async fn all_end(controllers: &mut Parts, stop: &CancellationToken) -> Option<String> {
    while let Some(ended) = controllers.next_end().await {
        if !stop.is_cancelled() {
            return Some(ended);
        }
    }
    None
}

/// Has every GatewayQueue looked at when this operator's turn comes: what happened
/// while it stood by was seen, and left to the other.
async fn follow(mut turn: watch::Receiver<bool>, tells: Vec<Tell>, metrics: Metrics) {
    loop {
        let works = *turn.borrow_and_update();
        metrics.works(works);
        if works {
            tells.iter().for_each(Tell::all);
        }
        if turn.changed().await.is_err() {
            // There is no election: this operator is alone, and works for good.
            std::future::pending::<()>().await;
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
    use super::*;

    #[tokio::test]
    async fn one_controller_of_several_that_ends_is_named_but_not_after_the_signal() {
        let stop = CancellationToken::new();
        let mut controllers = Parts::default();
        controllers.run("controller of a", stop.clone().cancelled_owned());
        controllers.run("controller of b", std::future::ready(()));
        let ended = Some("task controller of b exited unexpectedly: it returned".to_owned());
        assert_eq!(all_end(&mut controllers, &stop).await, ended);
        stop.cancel();
        assert_eq!(all_end(&mut controllers, &stop).await, None);
    }

    #[tokio::test]
    async fn an_operator_without_an_election_works_for_good() {
        let (works, turn) = watch::channel(true);
        drop(works);
        let (metrics, _) = Metrics::new();
        let following = follow(turn, Vec::new(), metrics);
        let ended = tokio::time::timeout(Duration::from_millis(50), following).await;
        assert!(ended.is_err(), "it ended");
    }
}
