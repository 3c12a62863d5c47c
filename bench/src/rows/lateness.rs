//! How late grants are while many clients wait.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::bench::Bench;
use crate::clients::{Clients, Received};
use crate::plot::{Axis, Line, Plot, Scale};
use crate::row::{Aim, Figure, Measured, Row, Unit};
use crate::server::{SPACING, Side};
use crate::stats::{quantile, sorted};
use crate::turns::alternate;

const BUCKETS: u32 = 64;

/// Long enough for a processor to become idle.
const SLEEP: Duration = Duration::from_millis(5);

/// The aim for the 99th percentile, in milliseconds.
const AIM: Aim = Aim::at_most(0.5);

const fn in_ms(name: &'static str, aim: Aim) -> Figure {
    Figure {
        name,
        unit: Unit::Milliseconds,
        aim,
    }
}

pub(super) const ROW: Row = Row {
    name: "lateness",
    title: "Lateness of grants with 15,000 waiting clients",
    method: "15,000 clients wait in 64 buckets, and their grants are received for 61 s. A grant is due 5 s after the \
        previous grant of its bucket; what it comes later is its lateness. It is measured at the client, so it \
        contains the delays of the kernel and of the measuring program, which runs on the same processors. As both \
        instants are the client's, a grant that was received late makes the next one early: lateness can be \
        negative. Buckets may be due in the same instant, and then one grant waits for the others. By our server's \
        clock (`gateway_queue_grant_lateness_seconds` of its metrics), a grant is late from the instant at which it \
        was allowed until it was written. How late the machine itself is: after that, a thread of the measuring \
        program sleeps for 5 ms a thousand times, while no server runs.",
    rounds: 2,
    on_node: false,
    figures: &[
        in_ms("lateness at the client, p50", Aim::NONE),
        in_ms("lateness at the client, p99", AIM),
        in_ms("lateness at the client, maximum", Aim::NONE),
        Figure {
            name: "grants later than 0.5 ms by the server's clock",
            unit: Unit::Percent,
            aim: Aim::at_most(1.0),
        },
        in_ms("lateness of a sleep on this machine, p50", Aim::NONE),
        in_ms("lateness of a sleep on this machine, p99", Aim::NONE),
    ],
    measure,
};

fn measure(bench: &Bench, rounds: usize) -> Result<Measured> {
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    let values = alternate(rounds, |side| {
        let (at_client, later) = observe(bench, side)?;
        let values = sorted(&at_client);
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| quantile(&values, share));
        let sleeps = match side {
            Side::Ours => sorted(&sleeps(bench.scale.sleeps)),
            Side::Peer => Vec::new(),
        };
        let [sleep_p50, sleep_p99] = [0.5, 0.99].map(|share| quantile(&sleeps, share));
        match side {
            Side::Ours => ours.extend(at_client),
            Side::Peer => peer.extend(at_client),
        }
        Ok([p50, p99, max, later, sleep_p50, sleep_p99])
    })?;
    let line = |name, values: &[f64]| Line {
        name,
        points: curve(values),
    };
    let plot = Plot {
        name: "lateness".to_owned(),
        title: "Lateness of grants at the client, of all rounds".to_owned(),
        x: Axis {
            label: "share of the grants, in percent",
            scale: Scale::Linear,
        },
        y: Axis {
            label: "lateness at most, in ms",
            scale: Scale::Linear,
        },
        lines: vec![line("ours", &ours), line("peer", &peer)],
    };
    Ok(Measured {
        values,
        plots: vec![plot],
    })
}

/// Returns the lateness of grants at the client, in milliseconds, and the percentage of those later
/// than 0.5 ms by the server's clock.
fn observe(bench: &Bench, side: Side) -> Result<(Vec<f64>, Option<f64>)> {
    // With few clients, fewer buckets: each must grant three times.
    let buckets = BUCKETS.min(bench.scale.clients / 4);
    let server = bench.start(side, buckets)?;
    let mut clients = Clients::new(server.address)?;
    clients.connect_and_ask(bench.scale.clients)?;
    // The grants so far were received while others connected: it is not known when.
    clients.received()?;
    let before = server.grants()?;
    let started = Instant::now();
    let mut received = Vec::new();
    clients.receive(started + bench.scale.grants, usize::MAX, &mut received)?;
    let at_client = lateness(&received, buckets);
    if at_client.is_empty() {
        bail!("no bucket had two grants");
    }
    let later = before.zip(server.grants()?).map(|(before, after)| {
        let in_time = (after.in_time - before.in_time) / (after.all - before.all);
        100.0 * (1.0 - in_time)
    });
    Ok((at_client, later))
}

/// Returns how late this thread wakes from sleeps, in milliseconds.
fn sleeps(count: u32) -> Vec<f64> {
    let late = |_| {
        let due = Instant::now() + SLEEP;
        thread::sleep(SLEEP);
        due.elapsed().as_secs_f64() * 1000.0
    };
    (0..count).map(late).collect()
}

/// Returns the lateness of each grant that follows another one of its bucket, in milliseconds.
fn lateness(received: &[Received], buckets: u32) -> Vec<f64> {
    let mut last = BTreeMap::new();
    let mut lateness = Vec::new();
    for grant in received {
        if let Some(before) = last.insert(grant.shard % buckets, grant.at) {
            let due = before + SPACING;
            let late = grant.at.saturating_duration_since(due).as_secs_f64();
            let early = due.saturating_duration_since(grant.at).as_secs_f64();
            lateness.push((late - early) * 1000.0);
        }
    }
    lateness
}

/// Returns the lateness that each share of the grants does not exceed.
fn curve(values: &[f64]) -> Vec<(f64, f64)> {
    let sorted = sorted(values);
    let shares = (0..=1000).map(|permille| f64::from(permille) / 10.0);
    shares
        .filter_map(|percent| Some((percent, quantile(&sorted, percent / 100.0)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_counts_from_the_previous_grant_of_the_bucket() {
        let start = Instant::now();
        let received: Vec<_> = [(0, 0), (1, 7), (2, 5002), (3, 5006), (4, 10_002)]
            .map(|(shard, ms)| Received {
                shard,
                at: start + Duration::from_millis(ms),
            })
            .into();
        let rounded: Vec<_> = lateness(&received, 2)
            .iter()
            .map(|late| late.round())
            .collect();
        assert_eq!(rounded, [2.0, -1.0, 0.0]);
    }
}
