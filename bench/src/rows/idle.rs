//! What a server costs that does nothing.

use std::thread;

use anyhow::Result;

use crate::bench::Bench;
use crate::row::{Aim, Figure, Measured, Row, Unit};
use crate::turns::alternate;

pub(super) const ROW: Row = Row {
    name: "idle",
    title: "Idle",
    method: "A new server without clients, without a token and without a Lease, at rest. Its wake-ups are the \
        voluntary context switches of all its threads (`/proc/PID/task/*/status`) in 60 s; its resident memory \
        (`VmRSS`) is read after that.",
    rounds: 2,
    on_node: false,
    figures: &[
        Figure {
            name: "idle: resident memory",
            unit: Unit::Mebibytes,
            aim: Aim::at_most(5.0),
        },
        Figure {
            name: "idle: wake-ups in 60 s",
            unit: Unit::Count,
            aim: Aim::at_most(0.0),
        },
    ],
    measure,
};

fn measure(bench: &Bench, rounds: usize) -> Result<Measured> {
    let values = alternate(rounds, |side| {
        let server = bench.start(side, 1)?;
        let process = server.process();
        process.wait_for_rest()?;
        let before = process.wake_ups()?;
        thread::sleep(bench.scale.idle);
        let wake_ups = process.wake_ups()?.saturating_sub(before);
        let memory = process.rss_kib()? as f64 / 1024.0;
        Ok([Some(memory), Some(wake_ups as f64)])
    })?;
    Ok(Measured::without_plots(values))
}
