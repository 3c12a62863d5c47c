//! Starts the tasks of the server, and shuts them down.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gateway_queue_core::leadership::candidate::Candidate;
use gateway_queue_core::leadership::state::LeadershipState;
use gateway_queue_core::leadership::term::ReceivedHandover;
use gateway_queue_core::leadership::{election, leader_health};
use gateway_queue_core::lease_state::last_known::PublishedState;
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
use crate::forwarding::destination::Upstream;
use crate::forwarding::leader_monitor;
use crate::forwarding::router::Router;
use crate::http_client::Unusable;
use crate::leadership::candidate_task::{CandidateTask, Connections};
use crate::leadership::lease_client::{ApiServer, Lease};
use crate::metrics::Metrics;
use crate::queue::task::QueueTask;
use crate::serving::capacity::{self, SystemLimits};
use crate::serving::http::{self, Listener};
use crate::serving::listen::{self, listen};
use crate::tasks::{Exited, Tasks};

/// How long a pod without waiting requests stays after SIGTERM, because the Service notices
/// late that it ends.
const LINGER: Duration = Duration::from_secs(5);

/// How often the number of waiting requests is checked while draining.
const DRAIN_INTERVAL: Duration = Duration::from_millis(250);

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// A port cannot be opened.
    #[error(transparent)]
    Listen(#[from] listen::Failed),
    /// There is no usable TLS or DNS configuration.
    #[error("cannot create the client for Discord")]
    Discord(#[source] Unusable),
    /// LEASE_NAME is set, but the process does not run in a pod with a service account.
    #[error("LEASE_NAME is set, but the API server cannot be used from here")]
    Cluster(#[source] Unusable),
    /// The kernel refuses a resource.
    #[error("the kernel refuses a resource")]
    System(#[from] io::Error),
    /// A task exited unexpectedly.
    #[error(transparent)]
    Exited(#[from] Exited),
}

/// Runs the server until `shutdown`. Outside a cluster it then ends immediately: clients
/// with `wait` are refused, and all other connections are closed, so that the clients retry
/// at the next queue. In the cluster, waiting requests are first forwarded to the next
/// leader, until none waits or the grace period is over.
///
/// # Errors
///
/// If the server cannot start, or a task fails.
pub async fn run(settings: Settings, shutdown: CancellationToken) -> Result<(), Failed> {
    let api_server = match &settings.lease {
        Some(_) => ApiServer::of_this_pod(|name| std::env::var(name).ok()),
        None => Err("not used without a Lease".into()),
    };
    run_with(settings, api_server, shutdown).await
}

/// Runs the server with this API server, which is used only if there is a Lease.
pub async fn run_with(
    settings: Settings,
    api_server: Result<ApiServer, Unusable>,
    shutdown: CancellationToken,
) -> Result<(), Failed> {
    // The start guard begins before the first request can be received.
    let started = boot_time::now();
    let queue_port = listen("PORT", settings.host, settings.port)?;
    let admin_port = listen("ADMIN_PORT", settings.admin_host(), settings.admin_port)?;

    let reserve = settings.session_reserve;
    let config = Config {
        spacing: settings.spacing(),
        start_guard: settings.start_guard,
        reservation_ttl: settings.reservation_ttl,
        shard_limit: settings.shard_limit,
        max_concurrency: settings.max_concurrency,
        rules: Rules {
            interval: settings.interval,
            reserve,
            refresh: settings.refresh_interval,
        },
    };
    let tokens = token_source::watch(&settings.token)?;
    let discord = Discord::new(&settings.discord_api, settings.discord_ca_file.clone())
        .map_err(Failed::Discord)?;
    let metrics = Arc::new(Metrics::new(reserve));
    let limits = SystemLimits::detect()?;
    let clients = limits.clients();
    let upstream = settings.upstream.as_ref();
    let upstream = upstream.map(|settings| Arc::new(Upstream::from(settings)));
    let forwards = settings.lease.is_some() || upstream.is_some();
    let max_clients = capacity::per_port(clients, forwards);
    if max_clients < capacity::FEW {
        warn!(
            max_clients,
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
        upstream = upstream.as_ref().map(|upstream| upstream.queue.as_str()),
        queue_address = %queue_port.local_addr()?,
        admin_address = %admin_port.local_addr()?,
        // An agent grants nothing.
        spacing_ms = upstream.is_none().then(|| ms(config.spacing)),
        start_guard = upstream.is_none().then_some(config.start_guard),
        max_clients,
        version = env!("CARGO_PKG_VERSION"),
        "listening"
    );

    let first = if forwards {
        // An agent never leads, so its queue stays empty.
        LeadershipState::UNKNOWN
    } else if config.start_guard {
        LeadershipState::alone(ReceivedHandover::unknown(started + config.spacing))
    } else {
        LeadershipState::alone(ReceivedHandover::NONE)
    };
    let (leadership, leadership_changes) = watch::channel(first);
    let leadership = Arc::new(leadership);
    let pod = settings.lease.as_ref().map_or("", |l| l.pod.as_str());
    let (lease_state, published) = watch::channel(PublishedState::new(pod));
    let counted = Arc::clone(&metrics);
    let (queue_task, handle) = QueueTask::new(
        config,
        clients,
        leadership_changes,
        tokens,
        discord,
        lease_state,
        counted,
    )?;
    let lease_read = CancellationToken::new();
    if settings.lease.is_none() {
        lease_read.cancel();
    }
    let about = About {
        pod: settings.lease.as_ref().map(|lease| Pod {
            namespace: lease.namespace.clone(),
            name: lease.pod.clone(),
        }),
        admin_port: admin_port.local_addr()?.port(),
        spacing: config.spacing,
        reserve,
        upstream: upstream.as_ref().map(|upstream| upstream.queue.clone()),
    };
    let route = Router {
        handle: handle.clone(),
        leadership: Arc::clone(&leadership),
        upstream,
        about: Arc::new(about),
        stall_detector: Arc::new(StallDetector::new(settings.margin)),
        reach: Arc::default(),
        metrics: Arc::clone(&metrics),
    };

    // Cancelled when no request is left to forward.
    let end = CancellationToken::new();
    let released = CancellationToken::new();
    let deleted = CancellationToken::new();
    let mut tasks = Tasks::default();
    let servers = TaskTracker::new();
    let serve = |port, from| {
        let (route, leaving, end) = (route.clone(), shutdown.clone(), end.clone());
        servers.track_future(http::serve(port, max_clients, from, route, leaving, end))
    };
    if let Some(lease) = &settings.lease {
        let peer_port = listen("PEER_PORT", settings.admin_host(), lease.peer_port)?;
        let client = api_server
            .and_then(|api_server| Lease::new(lease, api_server))
            .map_err(Failed::Cluster)?;
        let (renewals, seen) = watch::channel(None);
        let monitor = leader_monitor::run(
            leader_health::Config::new(election::renew_every(lease.duration)),
            leadership.subscribe(),
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
        let connections = Connections {
            lease: client,
            renewals,
            queue_task: handle,
            published,
            leadership,
            lease_read: lease_read.clone(),
            metrics: Arc::clone(&metrics),
            resign: shutdown.clone(),
            released: released.clone(),
            deleted: deleted.clone(),
        };
        let address = SocketAddr::new(lease.ip, peer_port.local_addr()?.port());
        let config = election(lease, settings.spacing());
        let candidate = Candidate::new(config, address, PublishedState::new(&lease.pod));
        let task = CandidateTask::new(candidate, connections)?;
        tasks.spawn("election", async { Ok(task.run().await?) });
        tasks.run("peer port", serve(peer_port, Listener::Peers));
    }
    tasks.spawn("queue", async { Ok(queue_task.run().await?) });
    let admin = Admin {
        route: route.clone(),
        lease_read,
    };
    let serving = routes::serve(admin_port, admin, end.clone());
    tasks.run("admin port", serving);
    tasks.run("queue port", serve(queue_port, Listener::Clients));

    let leave = async {
        shutdown.cancelled().await;
        if let Some(lease) = &settings.lease {
            tokio::select! {
                () = drained(&metrics, &released, lease) => {}
                // There will be no leader to forward to.
                () = deleted.cancelled() => {}
            }
        }
    };
    let ended = tokio::select! {
        () = leave => Ok(()),
        exited = tasks.exited() => Err(Failed::from(exited)),
    };
    end.cancel();
    // Clients with `wait` are refused, within a time limit. All other connections are
    // closed with the runtime.
    servers.close();
    servers.wait().await;
    tasks.shutdown().await;
    ended
}

/// The identity of this process must differ from that before a restart.
fn election(lease: &LeaseRef, spacing: Duration) -> election::Config {
    let identity = format!("{}_{:016x}", lease.pod, fastrand::u64(..));
    election::Config::new(identity, lease.duration, spacing)
}

/// Waits until no request waits here and the Lease is released, at most for the grace period.
/// New requests may arrive for a while, because the Service notices late that this pod ends.
async fn drained(metrics: &Metrics, released: &CancellationToken, lease: &LeaseRef) {
    info!(held_requests = metrics.held(), "draining");
    let started = Instant::now();
    let mut idle = Duration::ZERO;
    while started.elapsed() < lease.grace {
        // After the duration of the Lease, a release would be useless.
        let released = released.is_cancelled() || started.elapsed() > lease.duration;
        if released && idle >= LINGER {
            break;
        }
        sleep(DRAIN_INTERVAL).await;
        idle = if metrics.held() == 0 {
            idle + DRAIN_INTERVAL
        } else {
            Duration::ZERO
        };
    }
    if !released.is_cancelled() {
        let detail = "the next leader waits until the Lease expires";
        warn!(detail, "lease not released");
    }
}
