//! Puts the parts together and runs them until a signal.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use gateway_queue_telemetry::{Format, Service};
use kube::Config;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Readiness};
use crate::api::LogFormat;
use crate::apply::Cluster;
use crate::backoff::Backoffs;
use crate::client::Clients;
use crate::controller::{Context, controller};
use crate::election;
use crate::events::{self, Events};
use crate::metrics::Metrics;
use crate::observe::{Tell, watch_children};
use crate::repairs::Repairs;
use crate::settings::Settings;
use crate::tokens::Tokens;

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
    // Whatever is in here ends with this function.
    let mut tasks = JoinSet::new();
    tasks.spawn(admin::serve(listener, Arc::clone(&readiness), registry));
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
    tasks.spawn(events::publish(client.clone(), instance, notes));
    let (works, turn) = watch::channel(candidacy.is_none());
    let mut controllers = Vec::new();
    let mut tells = Vec::new();
    for namespace in scopes {
        let namespace = namespace.as_deref();
        let (stores, triggers) = watch_children(&client, namespace, &mut tasks);
        tells.push(triggers.tell.clone());
        let context = Arc::new(Context {
            cluster: Cluster::new(client.clone(), metrics.clone()),
            stores: stores.clone(),
            tokens: Tokens::default(),
            defaults: defaults.clone(),
            backoffs: Backoffs::default(),
            repairs: Repairs::default(),
            events: events.clone(),
            metrics: metrics.clone(),
            works: turn.clone(),
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
        controllers.push(async move {
            // Before the children are known, each would seem to be missing.
            let filled = stop.run_until_cancelled(stores.wait_until_ready()).await;
            if let Some(Ok(())) = filled {
                run.await;
            }
        });
    }
    tasks.spawn(follow(turn, tells, metrics));
    // The next operator's turn comes when this one has done nothing any more.
    let idle = CancellationToken::new();
    let standing = candidacy.map(|candidacy| {
        let standing = election::stand(election, candidacy, works, idle.clone());
        tokio::spawn(standing)
    });
    tokio::select! {
        _ = join_all(controllers) => {}
        () = too_long(&stop) => tracing::warn!("reconciles were cut off"),
    }
    idle.cancel();
    if let Some(standing) = standing {
        let _ = standing.await;
    }
    match stop.is_cancelled() {
        true => {
            tracing::info!("stopped");
            Ok(())
        }
        false => Err("the controller ended by itself".into()),
    }
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
            return;
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
