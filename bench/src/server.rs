//! A running server, ours or the peer's, in a process of its own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process::Process;

/// A server that takes longer to start has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// The spacing of both servers: the peer's cannot be set, and ours is set to it.
pub(crate) const SPACING: Duration = Duration::from_secs(5);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Ours,
    Peer,
}

/// A server, killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    /// The admin port of our server; none for the peer's.
    admin_address: Option<SocketAddr>,
    /// The time from the start of the process to the line that says that it listens.
    pub(crate) started_within: Duration,
    lines: Receiver<(Instant, String)>,
}

/// The grants of our server, by its own clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grants {
    pub(crate) all: f64,
    /// Those at most 0.5 ms late.
    pub(crate) in_time: f64,
}

impl Server {
    /// Starts a server with this many buckets on loopback, on ports that the system chooses.
    pub(crate) fn start(side: Side, program: &Path, max_concurrency: u32) -> Result<Self> {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("HOST", "127.0.0.1")
            .env("PORT", "0")
            .env("MAX_CONCURRENCY", max_concurrency.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if side == Side::Ours {
            command.env("ADMIN_PORT", "0").env("START_GUARD", "false");
            // The peer has no margin.
            command
                .env("IDENTIFY_MARGIN", "0s")
                .env("ALLOW_UNSAFE_INTERVAL", "true");
            command.env("IDENTIFY_INTERVAL", format!("{}s", SPACING.as_secs()));
            command.env("LOG_FORMAT", "json");
        }
        let started = Instant::now();
        let child = command.spawn();
        let mut child = child.with_context(|| format!("could not start {}", program.display()))?;
        let stderr = child.stderr.take();
        let (sender, lines) = channel();
        // Reads to the end, so that the server never waits for its log.
        thread::spawn(move || {
            let lines = stderr
                .into_iter()
                .flat_map(|stderr| BufReader::new(stderr).lines());
            for line in lines.map_while(Result::ok) {
                let _ = sender.send((Instant::now(), line));
            }
        });
        let mut server = Self {
            child,
            address: ([127, 0, 0, 1], 0).into(),
            admin_address: None,
            started_within: Duration::ZERO,
            lines,
        };
        let at = server.listening(side)?;
        server.started_within = at.duration_since(started);
        Ok(server)
    }

    pub(crate) fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// Returns the grants so far from the metrics of our server; none for the peer's.
    pub(crate) fn grants(&self) -> Result<Option<Grants>> {
        let Some(address) = self.admin_address else {
            return Ok(None);
        };
        let mut metrics = String::new();
        let mut stream = TcpStream::connect(address).context("connecting to the admin port")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")?;
        stream
            .read_to_string(&mut metrics)
            .context("reading the metrics")?;
        let value = |name: &str| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse().ok())
                .with_context(|| format!("no number {name}"))
        };
        Ok(Some(Grants {
            all: value("gateway_queue_grant_lateness_seconds_count")?,
            in_time: value("gateway_queue_grant_lateness_seconds_bucket{le=\"0.0005\"}")?,
        }))
    }

    /// Waits for the line that says where the server listens. Returns when it came.
    fn listening(&mut self, side: Side) -> Result<Instant> {
        let started = Instant::now();
        let mut last = String::new();
        loop {
            let left = PATIENCE.saturating_sub(started.elapsed());
            let line = self.lines.recv_timeout(left);
            let (at, line) = line.with_context(|| format!("the server does not listen: {last}"))?;
            let value: Value = serde_json::from_str(&line).unwrap_or_default();
            if value["message"] == "listening" {
                let address = |name: &str| -> Result<SocketAddr> {
                    let address = value[name].as_str().context("no address")?;
                    address.parse().context("reading the address")
                };
                self.address = address("queue_address")?;
                if side == Side::Ours {
                    self.admin_address = Some(address("admin_address")?);
                }
                return Ok(at);
            }
            last = line;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
