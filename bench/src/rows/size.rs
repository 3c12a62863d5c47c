//! The sizes of binaries and images.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::bench::{Bench, Programs};
use crate::row::{Aim, Figure, Measured, Row, Unit, Values};

const fn in_mb(name: &'static str, aim: Aim) -> Figure {
    Figure {
        name,
        unit: Unit::Megabytes,
        aim,
    }
}

pub(super) const ROW: Row = Row {
    name: "size",
    title: "Sizes",
    method: "All binaries are static and stripped, and built with the same profile. An image has one layer with \
        one file, the binary, and nothing else; its size is that of the uncompressed archive. Our server contains \
        what the peer does not: TLS and a DNS resolver for Discord's API and the API server of Kubernetes, leader \
        election, forwarding, a status page, metrics, and two commands for the terminal.",
    rounds: 1,
    on_node: false,
    figures: &[
        in_mb("queue: binary", Aim::NONE),
        in_mb("queue: image", Aim::at_most(6.0)),
        in_mb("operator: binary", Aim::NONE),
        in_mb("operator: image", Aim::at_most(10.0)),
    ],
    measure,
};

fn measure(bench: &Bench, _rounds: usize) -> Result<Measured> {
    let Programs {
        queue,
        peer,
        operator,
        queue_image,
        peer_image,
        operator_image,
        node: _,
    } = &bench.programs;
    let of = |ours: Option<&PathBuf>, peer: Option<&PathBuf>| -> Result<Values> {
        Ok(Values {
            ours: size(ours)?.into_iter().collect(),
            peer: size(peer)?.into_iter().collect(),
        })
    };
    Ok(Measured {
        values: vec![
            of(Some(queue), Some(peer))?,
            of(queue_image.as_ref(), peer_image.as_ref())?,
            of(operator.as_ref(), None)?,
            of(operator_image.as_ref(), None)?,
        ],
        plots: Vec::new(),
    })
}

/// Returns the size of a file in MB.
fn size(file: Option<&PathBuf>) -> Result<Option<f64>> {
    let Some(file) = file else { return Ok(None) };
    let metadata = fs::metadata(file);
    let metadata = metadata.with_context(|| format!("reading the size of {}", file.display()))?;
    Ok(Some(metadata.len() as f64 / 1e6))
}
