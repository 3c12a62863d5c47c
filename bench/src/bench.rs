//! What the rows share: the programs and the scale.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::server::{Server, Side};

/// The files that are measured.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Our server.
    pub queue: PathBuf,
    /// The peer's server.
    pub peer: PathBuf,
    /// Our operator.
    pub operator: Option<PathBuf>,
    /// The image of our server.
    pub queue_image: Option<PathBuf>,
    /// The image of the peer's server.
    pub peer_image: Option<PathBuf>,
    /// The image of our operator.
    pub operator_image: Option<PathBuf>,
    /// The program that measures on a node.
    pub node: Option<PathBuf>,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// The number of clients that wait.
    pub clients: u32,
    /// The numbers of clients for the growth.
    pub growth: [u32; 4],
    /// How long the peer's next grant may take to remove cancelled waiters.
    pub removal: Duration,
    /// How long grants are timed.
    pub grants: Duration,
    /// How often the machine's own lateness is measured.
    pub sleeps: u32,
    /// The shards of a cold start.
    pub shards: u32,
    /// The buckets of a cold start.
    pub max_concurrency: u32,
    /// The time within which staggered shards arrive.
    pub arrivals: Duration,
    /// How long an idle server is watched.
    pub idle: Duration,
    /// How often a process is started in one round.
    pub starts: u32,
    /// The waiters of the scheduler alone.
    pub waiters: u32,
    /// The buckets of the scheduler alone.
    pub buckets: u32,
}

impl Scale {
    /// That of the document.
    pub const FULL: Self = Self {
        clients: 15_000,
        growth: [10, 100, 1000, 10_000],
        removal: Duration::from_secs(6),
        grants: Duration::from_secs(61),
        sleeps: 1000,
        shards: 256,
        max_concurrency: 16,
        arrivals: Duration::from_secs(10),
        idle: Duration::from_secs(60),
        starts: 20,
        waiters: 1_000_000,
        buckets: 4096,
    };

    /// Small enough for a test; the figures mean nothing.
    pub const SMOKE: Self = Self {
        clients: 40,
        growth: [1, 2, 5, 10],
        removal: Duration::from_millis(50),
        // Two grants of a bucket.
        grants: Duration::from_secs(11),
        sleeps: 10,
        shards: 8,
        max_concurrency: 4,
        arrivals: Duration::from_millis(300),
        idle: Duration::from_millis(200),
        starts: 2,
        waiters: 1000,
        buckets: 16,
    };
}

/// A run of the benchmarks.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The files that are measured.
    pub programs: Programs,
    /// How much is measured.
    pub scale: Scale,
}

impl Bench {
    /// Returns a run, with a limit of open files that is high enough for its clients.
    ///
    /// # Errors
    ///
    /// If the system does not allow so many open files.
    pub fn new(programs: Programs, scale: Scale) -> Result<Self> {
        raise_open_files(u64::from(scale.clients) + 1000)?;
        Ok(Self { programs, scale })
    }

    /// Starts the server of this side, with this many buckets.
    pub(crate) fn start(&self, side: Side, max_concurrency: u32) -> Result<Server> {
        let program = match side {
            Side::Ours => &self.programs.queue,
            Side::Peer => &self.programs.peer,
        };
        Server::start(side, program, max_concurrency)
    }
}

/// Raises the limit of open files of this process and of those that it starts.
fn raise_open_files(wanted: u64) -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    limit.current = Some(wanted);
    // Only root may raise it.
    limit.maximum = limit.maximum.map(|maximum| maximum.max(wanted));
    let raised = setrlimit(Resource::Nofile, limit);
    raised.with_context(|| format!("the limit of open files must be {wanted}; raise it: ulimit -n"))
}
