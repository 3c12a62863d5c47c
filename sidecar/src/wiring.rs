//! Puts the parts together, and ends them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use gateway_queue_logbook::Entry;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::admin::{self, Admin};
use crate::budget::Rules;
use crate::client::Unusable;
use crate::discord::Discord;
use crate::keeper::Keeper;
use crate::lease::Lease;
use crate::metrics::Metrics;
use crate::queue::{Config, Queue};
use crate::settings::Settings;
use crate::{clock, http, logbook, room, token};

/// So many clients may come at the same moment, as all shards do after a restart
/// of a bot. Beyond it the kernel lets them try again after 1 s, 3 s ..., and
/// they lose the order in which they came. (The kernel's `somaxconn` caps it.)
const BACKLOG: u32 = 4096;

/// Something without which there is no queue.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// A port cannot be had.
    #[error("cannot listen on {address} ({variable}): {source}{}", hint(source))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Which setting says so.
        variable: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
    /// No TLS or DNS for Discord.
    #[error("cannot prepare to ask Discord: {0}")]
    Discord(Unusable),
    /// LEASE_NAME is set, but this is no pod with a service account.
    #[error("LEASE_NAME is set, but this is no pod that can reach its cluster: {0}")]
    Cluster(Unusable),
    /// The kernel refuses something basic.
    #[error("the system refuses: {0}")]
    System(#[from] io::Error),
    /// A part ended that never ends.
    #[error("a part of the queue ended by itself")]
    Ended,
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "; ports below 1024 are for root, mostly",
        io::ErrorKind::AddrInUse => "; another program has it",
        _ => "",
    }
}

/// Runs the queue until `shutdown`. Then it ends at once: those who wait see
/// their connection closed without an answer, and ask the next queue.
///
/// # Errors
///
/// When it cannot start, or a part fails that it cannot do without.
pub async fn run(settings: Settings, shutdown: CancellationToken) -> Result<(), Failed> {
    let Settings {
        host,
        port,
        admin_port,
        token: ref source,
        ref discord_api,
        max_concurrency,
        interval,
        start_guard,
        session_reserve: reserve,
        refresh_interval: refresh,
        place_kept,
        ref lease,
        margin: _,
        log_format: _,
        log_filter: _,
    } = settings;
    // The guard counts from before anything can be asked for.
    let started = clock::now();
    let queue_port = listen("PORT", host, port)?;
    let admin_port = listen("ADMIN_PORT", settings.admin_host(), admin_port)?;

    let admin_address = admin_port.local_addr()?;

    let config = Config {
        spacing: settings.spacing(),
        start_guard,
        place_kept,
        max_concurrency,
        rules: Rules {
            interval,
            reserve,
            refresh,
        },
    };
    let tokens = token::watch(source)?;
    let queue = Queue::new(&config, tokens.borrow().state(), started);
    let discord = Discord::new(discord_api).map_err(Failed::Discord)?;
    let metrics = Arc::new(Metrics::new(reserve));
    let pod = lease.as_ref().map_or("", |lease| lease.pod.as_str());
    let (logbook, entries) = watch::channel(Entry::new(pod));
    let most = room::most_clients()?;
    let (keeper, handle) =
        Keeper::new(queue, most, tokens, discord, logbook, Arc::clone(&metrics))?;

    info!(
        queue = %queue_port.local_addr()?,
        admin = %admin_address,
        spacing_ms = config.spacing.as_millis(),
        start_guard,
        most_clients = most,
        version = env!("CARGO_PKG_VERSION"),
        "listening"
    );

    let ready = Arc::new(AtomicBool::new(lease.is_none()));
    let mut parts = JoinSet::new();
    if let Some(lease) = lease {
        let environment = |name: &str| std::env::var(name).ok();
        let lease = Lease::in_cluster(lease, environment).map_err(Failed::Cluster)?;
        let ready = Arc::clone(&ready);
        parts.spawn(async move {
            logbook::keep(lease, entries, ready).await;
            Err(Failed::Ended)
        });
    }
    parts.spawn(async move {
        Err(keeper
            .run()
            .await
            .map_or_else(Failed::System, |()| Failed::Ended))
    });
    let admin = Admin {
        handle: handle.clone(),
        metrics: Arc::clone(&metrics),
        ready,
    };
    let until = shutdown.clone();
    parts.spawn(async move {
        admin::serve(admin_port, admin, until).await;
        Ok(())
    });
    let until = shutdown.clone();
    parts.spawn(async move {
        http::serve(queue_port, most, handle, metrics, until).await;
        Ok(())
    });

    let ended = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        Some(ended) = parts.join_next() => ended.unwrap_or(Err(Failed::Ended)),
    };
    shutdown.cancel();
    // The clients' connections go with the runtime, unanswered.
    parts.shutdown().await;
    ended
}

fn listen(variable: &'static str, host: IpAddr, port: u16) -> Result<TcpListener, Failed> {
    let address = SocketAddr::new(host, port);
    let bind = || {
        let socket = match host {
            IpAddr::V4(_) => TcpSocket::new_v4()?,
            IpAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // The port may be had again while old connections to it time out.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|source| Failed::Listen {
        address,
        variable,
        source,
    })
}
