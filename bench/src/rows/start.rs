//! How long a process takes until it accepts clients.

use std::net::TcpStream;

use anyhow::{Context, Result};

use crate::bench::Bench;
use crate::row::{Aim, Figure, Measured, Row, Unit};
use crate::stats::Spread;
use crate::turns::alternate;

pub(super) const ROW: Row = Row {
    name: "start",
    title: "Start of the process",
    method: "From the start of the process until the line that says that it listens is received; that it accepts \
        connections is verified. The value of a round is the median of 20 starts.",
    rounds: 5,
    on_node: false,
    figures: &[Figure {
        name: "process start to listening",
        unit: Unit::Milliseconds,
        aim: Aim::at_most(10.0),
    }],
    measure,
};

fn measure(bench: &Bench, rounds: usize) -> Result<Measured> {
    let values = alternate(rounds, |side| {
        let mut times = Vec::new();
        for _ in 0..bench.scale.starts {
            let server = bench.start(side, 1)?;
            TcpStream::connect(server.address).context("connecting to a server that listens")?;
            times.push(server.started_within.as_secs_f64() * 1000.0);
        }
        Ok([Spread::of(&times).map(|spread| spread.median)])
    })?;
    Ok(Measured::without_plots(values))
}
