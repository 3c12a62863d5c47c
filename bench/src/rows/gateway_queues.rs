//! What many GatewayQueues cost the operator.

use anyhow::{Result, ensure};

use crate::bench::Bench;
use crate::node::{self, Series};
use crate::plot::{Axis, Line, Plot, Scale};
use crate::row::{Aim, Figure, Measured, Row, Unit};

/// An exponent of 1 is linear. It varies by a few percent from one run to another.
const LINEAR: Aim = Aim::at_most(1.05);

const fn figure(name: &'static str, unit: Unit, aim: Aim) -> Figure {
    Figure { name, unit, aim }
}

pub(super) const ROW: Row = Row {
    name: "gateway-queues",
    title: "Up to 2,000 GatewayQueues",
    method: "On the test node of `cargo xtask cluster up`, with an operator that has just started. Eight clients \
        create GatewayQueues with `replicas: 0`; the time to converge ends with the event of a watch that shows the \
        last complete status, which the operator writes after the six children. The peer is a client that only \
        creates: eight clients apply the same six children, with other names and without the labels and the owner, \
        and an object in place of the GatewayQueue; they write no status and no events. First there are 10, then 90, \
        900 and 1,000 more, ours and the peer's alternating, and the times add up. The API server counts the requests \
        of the operator (children, status, event), except watches and those for its own Lease. With 1,000: a client \
        edits 100 GatewayQueues, one after the other, from the response until the Deployment has changed, which it \
        reads without a pause; then stand-ins for the leaders renew each Lease every 5 s, the operator reports each \
        leader, and its processor time in the following minute is read from `/proc/PID/stat` and its resident memory \
        (`VmRSS`) after it. Before the last 1,000, the operator is started again. The exponents are the logarithm \
        of the ratio of the cost of 2,000 to that of 1,000, to the base 2: at most 1 is linear or better (up to 1.05 \
        counts as 1). The plots show the last round, with the memory before there are leaders. \
        Nearly all of the processor time with leaders is that of 12,000 renewals, each of which wakes the operator \
        up, is decrypted and parsed. Reading them in batches with pauses was tried: the HTTP client buffers only one \
        event, so the operator fell behind.",
    rounds: 1,
    on_node: true,
    figures: &[
        figure(
            "1,000 GatewayQueues: time to converge",
            Unit::Seconds,
            Aim::of_peer(1.3),
        ),
        figure(
            "1,000 GatewayQueues: requests of the operator for each (6 children)",
            Unit::Exponent,
            Aim::at_most(8.0),
        ),
        figure(
            "1,000 GatewayQueues with leaders: the operator's processor time in a minute",
            Unit::Seconds,
            Aim::at_most(1.0),
        ),
        figure(
            "1,000 GatewayQueues with leaders: the operator's resident memory",
            Unit::Mebibytes,
            Aim::at_most(64.0),
        ),
        figure(
            "1,000 GatewayQueues: from an edit to the changed Deployment, p50",
            Unit::Milliseconds,
            Aim::NONE,
        ),
        figure(
            "1,000 GatewayQueues: from an edit to the changed Deployment, p99",
            Unit::Milliseconds,
            Aim::at_most(150.0),
        ),
        figure(
            "growth of the time to converge, exponent",
            Unit::Exponent,
            LINEAR,
        ),
        figure(
            "growth of the operator's memory, exponent",
            Unit::Exponent,
            LINEAR,
        ),
    ],
    measure,
};

fn measure(bench: &Bench, rounds: usize) -> Result<Measured> {
    let report = node::measure(bench, ROW.name, rounds)?;
    ensure!(report.values.len() == ROW.figures.len(), "not all figures");
    let plots = [
        ("gateway-queues-time", "Time to converge", "s"),
        (
            "gateway-queues-memory",
            "Resident memory of the operator",
            "MiB",
        ),
    ];
    let plots = plots.into_iter().zip(report.series);
    let plots = plots.map(|((name, title, unit), series)| plot(name, title, unit, series));
    Ok(Measured {
        values: report.values,
        plots: plots.collect(),
    })
}

fn plot(name: &str, title: &str, unit: &'static str, series: Series) -> Plot {
    let axis = |label| Axis {
        label,
        scale: Scale::Log,
    };
    let lines = [("ours", series.ours), ("peer", series.peer)];
    let lines = lines.into_iter().filter(|(_, points)| !points.is_empty());
    Plot {
        name: name.to_owned(),
        title: title.to_owned(),
        x: axis("GatewayQueues"),
        y: axis(unit),
        lines: lines.map(|(name, points)| Line { name, points }).collect(),
    }
}
