//! What a demo and a test need before they begin: a node, and images.

use std::thread;

use anyhow::{Result, anyhow};

use crate::cluster::{self, Cluster};
use crate::image::{self, Image};
use crate::interrupt;
use crate::workspace::Workspace;

/// Brings the node up and builds the images at the same time: on a fresh machine
/// Go and Rust then keep every core busy.
///
/// # Errors
/// The first error of either; the other is stopped by it.
pub(crate) fn node_and_images(workspace: &Workspace) -> Result<(Cluster, Vec<Image>)> {
    thread::scope(|scope| {
        let images = scope.spawn(|| image::build(workspace).inspect_err(|_| interrupt::request()));
        let cluster = cluster::up(workspace).inspect_err(|_| interrupt::request());
        let images = images
            .join()
            .map_err(|_| anyhow!("building the images panicked"))?;
        match (cluster, images) {
            (Ok(cluster), Ok(images)) => Ok((cluster, images)),
            // What was merely stopped by the other says so; the other says why.
            (Err(first), Err(second)) if interrupt::caused(&first) => Err(second),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    })
}
