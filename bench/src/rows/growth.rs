//! How memory and processor time grow with the number of waiting clients.

use anyhow::Result;

use super::load::Load;
use crate::bench::Bench;
use crate::plot::{Axis, Line, Plot, Scale};
use crate::row::{Aim, Figure, Measured, Row, Unit, Values};
use crate::server::Side;
use crate::stats::Spread;
use crate::turns::alternate;

/// An exponent of 1 is linear. It varies by a few percent from one run to another.
const LINEAR: Aim = Aim::at_most(1.05);

pub(super) const ROW: Row = Row {
    name: "growth",
    title: "Growth with the number of waiting clients",
    method: "The same as above with 10, 100, 1,000 and 10,000 clients. The exponent is log₁₀ of the ratio of the cost \
        of 10,000 clients to that of 1,000: at most 1 is linear or better (up to 1.05 counts as 1).",
    rounds: 2,
    on_node: false,
    figures: &[
        Figure {
            name: "growth of memory, exponent",
            unit: Unit::Exponent,
            aim: LINEAR,
        },
        Figure {
            name: "growth of processor time, exponent",
            unit: Unit::Exponent,
            aim: LINEAR,
        },
    ],
    measure,
};

fn measure(bench: &Bench, rounds: usize) -> Result<Measured> {
    let sizes = bench.scale.growth;
    // Memory and processor time of each size.
    let values = alternate(rounds, |side| {
        let mut costs = [None; 8];
        for (number, clients) in sizes.into_iter().enumerate() {
            let load = Load::measure(bench, side, clients)?;
            costs[number] = Some(load.memory_kib);
            costs[4 + number] = Some((load.accept + load.cancel).as_secs_f64() * 1000.0);
        }
        Ok(costs)
    })?;
    let (memory, processor) = values.split_at(4);
    let plot = |name: &str, title: &str, label, costs: &[Values]| {
        let line = |name, side| Line {
            name,
            points: points(&sizes, costs, side),
        };
        Plot {
            name: name.to_owned(),
            title: title.to_owned(),
            x: Axis {
                label: "waiting clients",
                scale: Scale::Log,
            },
            y: Axis {
                label,
                scale: Scale::Log,
            },
            lines: vec![line("ours", Side::Ours), line("peer", Side::Peer)],
        }
    };
    Ok(Measured {
        values: vec![exponents(memory), exponents(processor)],
        plots: vec![
            plot("growth-memory", "Memory of waiting clients", "KiB", memory),
            plot(
                "growth-processor",
                "Processor time to accept, queue and cancel",
                "ms",
                processor,
            ),
        ],
    })
}

fn points(sizes: &[u32], costs: &[Values], side: Side) -> Vec<(f64, f64)> {
    let median = |values: &Values| Spread::of(of_side(values, side)).map(|spread| spread.median);
    let points = sizes.iter().zip(costs);
    points
        .filter_map(|(size, values)| Some((f64::from(*size), median(values)?)))
        .collect()
}

/// Returns the exponents between the last two sizes.
fn exponents(costs: &[Values]) -> Values {
    let exponents = |side| {
        let of_last = |from_end: usize| {
            let values = costs
                .len()
                .checked_sub(from_end)
                .map(|number| &costs[number]);
            values.map_or(&[][..], |values| of_side(values, side))
        };
        let pairs = of_last(2).iter().zip(of_last(1));
        let exponents = pairs.map(|(less, more)| (more / less).log10());
        // There is none if a cost is too small to be measured.
        exponents.filter(|exponent| exponent.is_finite()).collect()
    };
    Values {
        ours: exponents(Side::Ours),
        peer: exponents(Side::Peer),
    }
}

fn of_side(values: &Values, side: Side) -> &[f64] {
    match side {
        Side::Ours => &values.ours,
        Side::Peer => &values.peer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponent_of_a_linear_cost_is_one() {
        let values = |ours: f64, peer: f64| Values {
            ours: vec![ours],
            peer: vec![peer],
        };
        let costs = [values(0.0, 1.0), values(20.0, 3.0), values(200.0, 300.0)];
        let exponents = exponents(&costs);
        assert!((exponents.ours[0] - 1.0).abs() < 1e-9 && (exponents.peer[0] - 2.0).abs() < 1e-9);
        assert!(super::exponents(&costs[..2]).ours.is_empty());
        let points = points(&[10, 100, 1000], &costs, Side::Peer);
        assert_eq!(points, [(10.0, 1.0), (100.0, 3.0), (1000.0, 300.0)]);
    }
}
