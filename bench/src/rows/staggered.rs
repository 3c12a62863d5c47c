//! How long shards that arrive one after the other wait, beyond what they must.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::bench::Bench;
use crate::clients::Clients;
use crate::plot::{Axis, Line, Plot, Scale};
use crate::row::{Aim, Figure, Measured, Row, Unit};
use crate::server::{SPACING, Side};
use crate::turns::alternate;

/// How much longer than the ideal the last grant may take before it has failed.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) const ROW: Row = Row {
    name: "staggered",
    title: "256 shards that arrive within 10 s",
    method: "As the cold start, but the requests are sent at equal distances within 10 s. In the ideal, each bucket \
        grants on its own: a shard as soon as it has arrived and 5 s have passed since the ideal grant before it. \
        The figure is the mean of what the shards wait beyond that. It adds up: a bucket's 16th grant is late by all \
        the lateness before it. (The peer has one timer for all buckets, so the first shard of a bucket may wait for \
        up to 5 s.) The plot shows the last round.",
    rounds: 2,
    on_node: false,
    figures: &[Figure {
        name: "256 shards within 10 s: mean wait beyond the ideal",
        unit: Unit::Milliseconds,
        aim: Aim::at_most(1.0),
    }],
    measure,
};

fn measure(bench: &Bench, rounds: usize) -> Result<Measured> {
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    let values = alternate(rounds, |side| {
        let beyond = observe(bench, side)?;
        let mean = beyond.iter().sum::<f64>() / beyond.len() as f64;
        let line = match side {
            Side::Ours => &mut ours,
            Side::Peer => &mut peer,
        };
        *line = (0_u32..).map(f64::from).zip(beyond).collect();
        Ok([Some(mean)])
    })?;
    let plot = Plot {
        name: "staggered".to_owned(),
        title: "Wait beyond the ideal of shards that arrive within 10 s".to_owned(),
        x: Axis {
            label: "shard, in the order of arrival",
            scale: Scale::Linear,
        },
        y: Axis {
            label: "ms",
            scale: Scale::Log,
        },
        lines: vec![
            Line {
                name: "ours",
                points: ours,
            },
            Line {
                name: "peer",
                points: peer,
            },
        ],
    };
    Ok(Measured {
        values,
        plots: vec![plot],
    })
}

/// Returns how long each shard waited beyond the ideal, in milliseconds.
fn observe(bench: &Bench, side: Side) -> Result<Vec<f64>> {
    let shards = bench.scale.shards;
    let server = bench.start(side, bench.scale.max_concurrency)?;
    let mut clients = Clients::new(server.address)?;
    clients.connect(shards)?;
    server.process().wait_for_rest()?;
    let started = Instant::now();
    let (mut asked, mut received) = (Vec::new(), Vec::new());
    for shard in 0..shards {
        let at = started + bench.scale.arrivals * shard / shards;
        clients.receive(at, usize::MAX, &mut received)?;
        asked.push(clients.ask(shard)?);
    }
    let ideal = ideal(&asked, bench.scale.max_concurrency);
    let last = ideal.iter().max().copied().unwrap_or(started);
    clients.receive_all(last + PATIENCE, shards, &mut received)?;
    received.sort_by_key(|grant| grant.shard);
    let beyond = received.iter().zip(ideal);
    Ok(beyond
        .map(|(grant, ideal)| grant.at.saturating_duration_since(ideal).as_secs_f64() * 1000.0)
        .collect())
}

/// Returns when each shard would be granted by buckets that are never late.
fn ideal(asked: &[Instant], max_concurrency: u32) -> Vec<Instant> {
    let mut last: Vec<Option<Instant>> = vec![None; max_concurrency as usize];
    let mut ideal = Vec::new();
    for (shard, asked) in asked.iter().enumerate() {
        let last = &mut last[shard % max_concurrency as usize];
        let at = last.map_or(*asked, |last| (last + SPACING).max(*asked));
        *last = Some(at);
        ideal.push(at);
    }
    ideal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_grants_on_its_own() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        // Shards 0, 2 and 4 wait in one bucket.
        let asked = [at(0), at(100), at(200), at(9000), at(11_000)];
        let granted = [at(0), at(100), at(5000), at(9000), at(11_000)];
        assert_eq!(ideal(&asked, 2), granted);
    }
}
