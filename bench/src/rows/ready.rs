//! How long a GatewayQueue takes to be ready.

use anyhow::Result;

use crate::bench::Bench;
use crate::node;
use crate::row::{Aim, Figure, Measured, Row, Unit};

pub(super) const ROW: Row = Row {
    name: "ready",
    title: "From the apply of a GatewayQueue to Ready",
    method: "On the test node of `cargo xtask cluster up`. Ours: from a request for server-side apply of a \
        GatewayQueue with one pod to its condition Ready. The peer: the children of such a GatewayQueue, applied one \
        after the other by the same client, from the first request until the Deployment is Available and its pod \
        Ready. They have other names and no owner and no labels, so the operator ignores them. On both sides the end \
        is the event of a watch. Between two measurements, all pods end. Most of the time is the kubelet's: it \
        starts the pod in about 0.7 s, and looks only once a second for containers that have started. Therefore each \
        round begins at another instant of that second, the same for both sides.",
    rounds: 16,
    on_node: true,
    figures: &[Figure {
        name: "apply of a GatewayQueue to Ready (peer: its children by hand)",
        unit: Unit::Seconds,
        aim: Aim::of_peer(1.15),
    }],
    measure: |bench: &Bench, rounds: usize| -> Result<Measured> {
        Ok(Measured {
            values: node::measure(bench, "ready", rounds)?.values,
            plots: Vec::new(),
        })
    },
};
