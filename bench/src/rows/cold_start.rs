//! How long all shards of a bot take to start at once.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::bench::Bench;
use crate::clients::Clients;
use crate::row::{Aim, Figure, Measured, Row, Unit};
use crate::server::{SPACING, Side};
use crate::turns::alternate;

/// How much longer than the ideal may take before it has failed.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) const ROW: Row = Row {
    name: "cold-start",
    title: "Cold start of 256 shards",
    method: "256 clients connect to a server with 16 buckets; then all send their requests at once. The time is that \
        from the first request to the last grant. The ideal is ceil(256 / 16 − 1) · 5 s = 75 s: in each bucket, the \
        first shard starts at once and 15 others follow, 5 s apart. The aim is within 0.1 % of that, and not above \
        the peer. (The peer's timer fires with the first request: if it grants before the first shards of all \
        buckets have arrived, the others start 5 s later, and so do all that follow them.)",
    rounds: 2,
    on_node: false,
    figures: &[
        Figure {
            name: "cold start of 256 shards, max_concurrency 16 (ideal: 75 s)",
            unit: Unit::Seconds,
            aim: Aim {
                at_most: Some(75.075),
                of_peer: Some(1.0),
            },
        },
        Figure {
            name: "cold start, beyond the ideal",
            unit: Unit::Milliseconds,
            aim: Aim::NONE,
        },
    ],
    measure,
};

fn measure(bench: &Bench, rounds: usize) -> Result<Measured> {
    let shards = bench.scale.shards;
    let ideal = SPACING
        * (shards
            .div_ceil(bench.scale.max_concurrency)
            .saturating_sub(1));
    let values = alternate(rounds, |side| {
        let took = start_all(bench, side, ideal)?.as_secs_f64();
        Ok([took, (took - ideal.as_secs_f64()) * 1000.0].map(Some))
    })?;
    Ok(Measured::without_plots(values))
}

/// Returns the time from the first request to the last grant.
fn start_all(bench: &Bench, side: Side, ideal: Duration) -> Result<Duration> {
    let shards = bench.scale.shards;
    let server = bench.start(side, bench.scale.max_concurrency)?;
    let mut clients = Clients::new(server.address)?;
    clients.connect(shards)?;
    server.process().wait_for_rest()?;
    let started = Instant::now();
    for shard in 0..shards {
        clients.ask(shard)?;
    }
    let mut received = Vec::new();
    clients.receive_all(started + ideal + PATIENCE, shards, &mut received)?;
    let last = received.iter().map(|grant| grant.at).max();
    Ok(last.unwrap_or(started).duration_since(started))
}
