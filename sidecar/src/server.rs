//! Puts the parts together, and ends them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use gateway_queue_core::leadership::candidate::Candidate;
use gateway_queue_core::leadership::state::LeadershipState;
use gateway_queue_core::leadership::term::Inheritance;
use gateway_queue_core::leadership::{election, leader_health};
use gateway_queue_core::lease_state::last_known::Page;
use gateway_queue_core::pacing::budget::Rules;
use gateway_queue_core::pacing::scheduler::Config;
use gateway_queue_core::queue::snapshot::{About, Pod};
use gateway_queue_telemetry::ms;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::admin::routes::{self, Admin};
use crate::clock::boot_time;
use crate::clock::stall_detector::StallDetector;
use crate::config::{LeaseRef, Settings};
use crate::discord::api::Discord;
use crate::discord::token_source;
use crate::forwarding::leader_monitor;
use crate::forwarding::router::Route;
use crate::http_client::Unusable;
use crate::leadership::candidate_task::{CandidateTask, Ways};
use crate::leadership::lease_client::{ApiServer, Lease};
use crate::metrics::Metrics;
use crate::queue::task::QueueTask;
use crate::serving::capacity::{self, SystemLimits};
use crate::serving::http::{self, Listener};
use crate::serving::listen::{self, listen};
use crate::tasks::{Exited, Tasks};

/// How long nobody must wait here before a pod that is to end does so: the
/// Service learns of it late.
const LINGER: Duration = Duration::from_secs(5);

/// How often to look whether anybody waits, while ending.
const LOOK: Duration = Duration::from_millis(250);

/// Something without which there is no queue.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// A port cannot be had.
    #[error(transparent)]
    Listen(#[from] listen::Failed),
    /// No TLS or DNS for Discord.
    #[error("cannot prepare to ask Discord")]
    Discord(#[source] Unusable),
    /// LEASE_NAME is set, but this is no pod with a service account.
    #[error("LEASE_NAME is set, but this is no pod that can reach its cluster")]
    Cluster(#[source] Unusable),
    /// The kernel refuses something basic.
    #[error("the system refuses")]
    System(#[from] io::Error),
    /// A task exited that never does.
    #[error(transparent)]
    Exited(#[from] Exited),
}

/// Runs the queue until `shutdown`. Alone, it ends at once then: those who wait
/// see their connection closed without an answer, and ask the next queue; who said
/// how long it wants to wait is refused. In the cluster it forwards them to the next
/// leader before, until nobody waits or its grace is over.
///
/// # Errors
///
/// When it cannot start, or a part fails that it cannot do without.
pub async fn run(settings: Settings, shutdown: CancellationToken) -> Result<(), Failed> {
    let api_server = match &settings.lease {
        Some(_) => ApiServer::of_this_pod(|name| std::env::var(name).ok()),
        None => Err("without a Lease it is not needed".into()),
    };
    run_with(settings, api_server, shutdown).await
}

/// As [`run`], with this API server, which is used only if there is a Lease.
///
/// # Errors
///
/// As [`run`].
pub async fn run_with(
    settings: Settings,
    api_server: Result<ApiServer, Unusable>,
    shutdown: CancellationToken,
) -> Result<(), Failed> {
    // The guard counts from before anything can be asked for.
    let started = boot_time::now();
    let queue_port = listen("PORT", settings.host, settings.port)?;
    let admin_port = listen("ADMIN_PORT", settings.admin_host(), settings.admin_port)?;

    let reserve = settings.session_reserve;
    let config = Config {
        spacing: settings.spacing(),
        start_guard: settings.start_guard,
        place_kept: settings.place_kept,
        max_concurrency: settings.max_concurrency,
        rules: Rules {
            interval: settings.interval,
            reserve,
            refresh: settings.refresh_interval,
        },
    };
    let tokens = token_source::watch(&settings.token)?;
    let discord = Discord::new(&settings.discord_api).map_err(Failed::Discord)?;
    let metrics = Arc::new(Metrics::new(reserve));
    let limits = SystemLimits::detect()?;
    let room = limits.clients();
    let most = capacity::per_port(room, settings.lease.is_some());
    if most < capacity::FEW {
        warn!(
            max_clients = most,
            open_files = limits.open_files,
            memory_bytes = limits.memory_bytes,
            detail = "raise the memory limit to 64 MiB or more, and the open files to 1024 or more",
            "few clients allowed"
        );
    }
    let lease = settings.lease.as_ref();
    info!(
        // The Lease has the name of its GatewayQueue.
        queue = lease.map(|lease| lease.name.as_str()),
        namespace = lease.map(|lease| lease.namespace.as_str()),
        pod = lease.map(|lease| lease.pod.as_str()),
        queue_address = %queue_port.local_addr()?,
        admin_address = %admin_port.local_addr()?,
        spacing_ms = ms(config.spacing),
        start_guard = config.start_guard,
        max_clients = most,
        version = env!("CARGO_PKG_VERSION"),
        "listening"
    );

    let first = match (&settings.lease, config.start_guard) {
        (Some(_), _) => LeadershipState::SEEKS,
        (None, true) => LeadershipState::alone(Inheritance::unknown(started + config.spacing)),
        (None, false) => LeadershipState::alone(Inheritance::NOTHING),
    };
    let (standing, stands) = watch::channel(first);
    let standing = Arc::new(standing);
    let pod = settings.lease.as_ref().map_or("", |l| l.pod.as_str());
    let (lease_state, pages) = watch::channel(Page::new(pod));
    let counted = Arc::clone(&metrics);
    let (queue_task, handle) =
        QueueTask::new(config, room, stands, tokens, discord, lease_state, counted)?;
    let ready = Arc::new(AtomicBool::new(settings.lease.is_none()));
    let route = Route {
        handle: handle.clone(),
        standing: Arc::clone(&standing),
        beat: Arc::new(StallDetector::new(settings.margin)),
        reach: Arc::default(),
        metrics: Arc::clone(&metrics),
    };

    // What ends when this process has nobody to forward any more.
    let end = CancellationToken::new();
    let left = CancellationToken::new();
    let gone = CancellationToken::new();
    let mut tasks = Tasks::default();
    let servers = TaskTracker::new();
    if let Some(lease) = &settings.lease {
        let peer_port = listen("PEER_PORT", settings.admin_host(), lease.peer_port)?;
        let client = api_server
            .and_then(|api_server| Lease::new(lease, api_server))
            .map_err(Failed::Cluster)?;
        let (renewals, seen) = watch::channel(None);
        let monitor = leader_monitor::run(
            leader_health::Config::new(lease.renew_every),
            standing.subscribe(),
            seen.clone(),
            Arc::clone(&route.reach),
        );
        tasks.run("leader monitor", monitor);
        let (reach, pod) = (Arc::clone(&route.reach), lease.pod.clone());
        let (reporter, counted) = (client.clone(), Arc::clone(&metrics));
        let report = leader_monitor::report(pod, seen, reach, counted, move |patch| {
            let client = reporter.clone();
            async move { client.patch(&patch).await.map(|_| ()) }
        });
        tasks.run("leader report", report);
        let ways = Ways {
            lease: client,
            renewals,
            queue_task: handle.clone(),
            pages,
            standing,
            ready: Arc::clone(&ready),
            metrics: Arc::clone(&metrics),
            resign: shutdown.clone(),
            left: left.clone(),
            gone: gone.clone(),
        };
        let address = SocketAddr::new(lease.ip, peer_port.local_addr()?.port());
        let config = election(lease, settings.spacing());
        let candidate = Candidate::new(config, address, Page::new(&lease.pod));
        let task = CandidateTask::new(candidate, ways)?;
        tasks.spawn("election", async { Ok(task.run().await?) });
        let (route, leaving) = (route.clone(), shutdown.clone());
        let serving = http::serve(
            peer_port,
            most,
            Listener::Peers,
            route,
            leaving,
            end.clone(),
        );
        let serving = servers.track_future(serving);
        tasks.run("peer port", serving);
    }
    tasks.spawn("queue", async { Ok(queue_task.run().await?) });
    let admin = Admin {
        about: Arc::new(About {
            pod: settings.lease.as_ref().map(|lease| Pod {
                namespace: lease.namespace.clone(),
                name: lease.pod.clone(),
            }),
            admin_port: admin_port.local_addr()?.port(),
            spacing: config.spacing,
            reserve,
        }),
        handle,
        reach: Arc::clone(&route.reach),
        metrics: Arc::clone(&metrics),
        ready,
    };
    let serving = routes::serve(admin_port, admin, end.clone());
    tasks.run("admin port", serving);
    let leaving = shutdown.clone();
    let serving = http::serve(
        queue_port,
        most,
        Listener::Clients,
        route,
        leaving,
        end.clone(),
    );
    let serving = servers.track_future(serving);
    tasks.run("queue port", serving);

    let leave = async {
        shutdown.cancelled().await;
        if let Some(lease) = &settings.lease {
            tokio::select! {
                () = forwarded(&metrics, &left, lease) => {}
                // There is nobody to forward to, and never will be.
                () = gone.cancelled() => {}
            }
        }
    };
    let ended = tokio::select! {
        () = leave => Ok(()),
        exited = tasks.exited() => Err(Failed::from(exited)),
    };
    end.cancel();
    // Who opted in is refused; each of them has a time limit. All other connections
    // go with the runtime, unanswered.
    servers.close();
    servers.wait().await;
    tasks.shutdown().await;
    ended
}

/// Who this process is must differ from who it was before a restart.
fn election(lease: &LeaseRef, spacing: Duration) -> election::Config {
    election::Config {
        identity: format!("{}_{:016x}", lease.pod, fastrand::u64(..)),
        duration: lease.duration,
        renew_every: lease.renew_every,
        margin: lease.margin,
        spacing,
    }
}

/// Waits until all who wait here were forwarded and the Lease is released, or for
/// the grace. New ones may come for a while: the Service learns late that this
/// pod is to end.
async fn forwarded(metrics: &Metrics, left: &CancellationToken, lease: &LeaseRef) {
    info!(held_requests = metrics.held(), "draining");
    let started = Instant::now();
    let mut idle = Duration::ZERO;
    while started.elapsed() < lease.grace {
        // Longer than that, the record of a leader is worth nothing.
        let released = left.is_cancelled() || started.elapsed() > lease.duration;
        if released && idle >= LINGER {
            break;
        }
        sleep(LOOK).await;
        idle = match metrics.held() {
            0 => idle + LOOK,
            _ => Duration::ZERO,
        };
    }
    if !left.is_cancelled() {
        let detail = "the next leader waits until the Lease expires";
        warn!(detail, "lease not released");
    }
}
