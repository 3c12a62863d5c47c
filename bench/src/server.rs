//! A running server, ours or the peer's, in a process of its own.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
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

/// How to start a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// The number of buckets.
    pub(crate) max_concurrency: u32,
    /// Whether our server logs each grant. The peer never does.
    pub(crate) logs_grants: bool,
}

impl Settings {
    /// Returns settings with this many buckets, and without logs of grants.
    pub(crate) fn buckets(max_concurrency: u32) -> Self {
        Self {
            max_concurrency,
            logs_grants: false,
        }
    }
}

/// A server, killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    /// The time from the start of the process to the line that says that it listens.
    pub(crate) started_within: Duration,
    lines: Receiver<(Instant, String)>,
}

impl Server {
    /// Starts a server on loopback, on ports that the system chooses.
    pub(crate) fn start(side: Side, program: &Path, settings: Settings) -> Result<Self> {
        let max_concurrency = settings.max_concurrency.to_string();
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("HOST", "127.0.0.1")
            .env("PORT", "0")
            .env("MAX_CONCURRENCY", max_concurrency)
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
            let level = if settings.logs_grants {
                "info,gateway_queue::queue::task=debug"
            } else {
                "info"
            };
            command.env("RUST_LOG", level);
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
            started_within: Duration::ZERO,
            lines,
        };
        let (at, address) = server.listening()?;
        server.address = address;
        server.started_within = at.duration_since(started);
        Ok(server)
    }

    pub(crate) fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// Returns how late our server says that its grants since `since` were, in milliseconds. A
    /// grant is logged after it is written, so the last ones may be missing.
    pub(crate) fn logged_lateness(&self, since: Instant) -> Vec<f64> {
        let late = |(at, line): (Instant, String)| {
            let line: Value = serde_json::from_str(&line).ok()?;
            let late_us = line["late_us"].as_f64()?;
            (at >= since).then_some(late_us / 1000.0)
        };
        self.lines.try_iter().filter_map(late).collect()
    }

    /// Waits for the line that says where the server listens.
    fn listening(&self) -> Result<(Instant, SocketAddr)> {
        let started = Instant::now();
        let mut last = String::new();
        loop {
            let left = PATIENCE.saturating_sub(started.elapsed());
            let line = self.lines.recv_timeout(left);
            let (at, line) = line.with_context(|| format!("the server does not listen: {last}"))?;
            let value: Value = serde_json::from_str(&line).unwrap_or_default();
            if value["message"] == "listening" {
                let address = value["queue_address"].as_str().context("no address")?;
                return Ok((at, address.parse().context("reading the address")?));
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
