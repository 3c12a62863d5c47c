//! Memory and processor time of waiting clients.

use anyhow::Result;

use super::load::Load;
use crate::bench::Bench;
use crate::row::{Aim, Figure, Measured, Row, Unit};
use crate::turns::alternate;

pub(super) const ROW: Row = Row {
    name: "waiting",
    title: "15,000 waiting clients",
    method: "A new server with one bucket serves 64 clients to warm up. Then 15,000 clients connect, one after the \
        other, and each sends its request. When the server has accepted all of them and is at rest, the growth of its \
        resident memory (`VmRSS`) is divided by their number. Then all disconnect. The processor time is that of all \
        threads (`schedstat`: user and system mode). That of the cancellation is read 6 s after the last disconnect, \
        because the peer removes cancelled waiters when their bucket grants, every 5 s. Three quarters of our processor \
        time are the kernel's (`perf`), for a TCP connection that is accepted, read and closed: it is the same for \
        the peer. A server with one thread, like the peer's, would need 6 % less; the second thread keeps grants in \
        time while clients connect.",
    rounds: 3,
    on_node: false,
    figures: &[
        Figure {
            name: "memory per waiting connection",
            unit: Unit::Kibibytes,
            aim: Aim::at_most(3.0),
        },
        Figure {
            name: "processor time to accept and queue 15,000",
            unit: Unit::Seconds,
            aim: Aim::NONE,
        },
        Figure {
            name: "processor time to cancel 15,000",
            unit: Unit::Seconds,
            aim: Aim::NONE,
        },
        Figure {
            name: "processor time to accept, queue and cancel 15,000",
            unit: Unit::Seconds,
            aim: Aim::of_peer(0.7),
        },
    ],
    measure,
};

fn measure(bench: &Bench, rounds: usize) -> Result<Measured> {
    let clients = bench.scale.clients;
    let values = alternate(rounds, |side| {
        let load = Load::measure(bench, side, clients)?;
        let (accept, cancel) = (load.accept.as_secs_f64(), load.cancel.as_secs_f64());
        let per_client = load.memory_kib / f64::from(clients);
        Ok([per_client, accept, cancel, accept + cancel].map(Some))
    })?;
    Ok(Measured::without_plots(values))
}
