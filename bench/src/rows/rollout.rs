//! How long a queue has no leader in a rollout.

use anyhow::Result;

use crate::bench::Bench;
use crate::node;
use crate::row::{Aim, Figure, Measured, Row, Unit};

const fn in_ms(name: &'static str, aim: Aim) -> Figure {
    Figure {
        name,
        unit: Unit::Milliseconds,
        aim,
    }
}

pub(super) const ROW: Row = Row {
    name: "rollout",
    title: "Rollout of a queue",
    method: "On the test node of `cargo xtask cluster up`: 30 changes of the spec of a GatewayQueue with two pods and \
        no clients, each of which replaces both pods. The time without a leader is that between two lines of the \
        pods' logs, by the clock of the machine on which all pods run: from `no longer the leader`, when the old \
        leader stops granting, to `became the leader`, when the new one has the API server's response to its write \
        of the Lease. If a rollout changes the leader twice, because the first successor is also replaced, it is the \
        sum of both. Of 30 values, the 99th percentile is the highest.",
    rounds: 1,
    on_node: true,
    figures: &[
        in_ms("rollout: time without a leader, p50", Aim::NONE),
        in_ms("rollout: time without a leader, p99", Aim::at_most(200.0)),
    ],
    measure: |bench: &Bench, rounds: usize| -> Result<Measured> {
        Ok(Measured {
            values: node::measure(bench, "rollout", rounds)?.values,
            plots: Vec::new(),
        })
    },
};
