//! `cargo xtask bench`: the queue beside its peer.
//!
//! What is measured is in `bench/`, which has more dependencies than xtask should. This builds its
//! programs and those that they measure, and runs them.

use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use testnode::host::Workspace;
use testnode::host::process::Logged;
use testnode::image::Image;

use crate::image;

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Choice {
    /// Measure only this row, and write nothing; repeatable
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
    /// Measure this many rounds instead of each row's own number
    #[arg(long)]
    rounds: Option<u16>,
    /// Measure so little that it takes a minute, in one round, and write nothing: the figures mean
    /// nothing
    #[arg(long)]
    smoke: bool,
}

/// Builds the programs, measures them and prints the table. A run of all rows also writes
/// docs/benchmarks.md.
pub(crate) fn run(workspace: &Workspace, choice: &Choice) -> Result<()> {
    // In a build of its own: the features that the bench needs must not change our programs.
    let doing = "building the benchmarks and the peer";
    let folder = image::compile(workspace, doing, &["gateway-queue-bench"])?;
    let images = image::build(workspace)?;
    let archive = |name: &str| {
        let image = images.iter().find(|image| image.name == name);
        image
            .map(|image| image.archive.clone())
            .with_context(|| format!("no image {name}"))
    };
    let peer = folder.join("peer");
    let peer_image = workspace.target.join("images/peer.tar");
    let files = [("/peer".to_owned(), peer.clone())];
    let peer_image = Image::write("peer", &files, Some("/peer"), &peer_image)?;

    let mut bench = Command::new(folder.join("bench"));
    bench.current_dir(&workspace.root);
    bench.arg("--root").arg(&workspace.root);
    bench.arg("--queue").arg(folder.join("gateway-queue"));
    bench.arg("--peer").arg(peer);
    bench
        .arg("--operator")
        .arg(folder.join("gateway-queue-operator"));
    bench.arg("--queue-image").arg(archive("gateway-queue")?);
    bench.arg("--peer-image").arg(peer_image.archive);
    bench
        .arg("--operator-image")
        .arg(archive("gateway-queue-operator")?);
    for row in &choice.only {
        bench.args(["--only", row]);
    }
    if let Some(rounds) = choice.rounds {
        bench.arg("--rounds").arg(rounds.to_string());
    }
    if choice.smoke {
        bench.arg("--smoke");
    }
    let log = workspace.target.join("bench.log");
    let status = Logged::new("measuring", &log).show(&bench)?;
    if !status.success() {
        bail!(
            "the benchmarks failed ({status}); the log is {}",
            log.display()
        );
    }
    Ok(())
}
