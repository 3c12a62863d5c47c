//! `cargo xtask bench`: the queue beside its peer.
//!
//! What is measured is in `bench/`, which has more dependencies than xtask should. This builds its
//! programs and those that they measure, prepares the test node if a row needs it, and runs them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use clap::Args;
use testnode::host::Workspace;
use testnode::host::process::Logged;
use testnode::image::Image;

use crate::demo::Scenario;
use crate::image;
use crate::target::{self, Target};

/// The rows that are measured on the test node.
const ON_NODE: [&str; 3] = ["rollout", "ready", "gateway-queues"];

/// The beginning of the name of the namespace of their fake Discord.
const NAMESPACE: &str = "gateway-queue-bench";

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Choice {
    /// Measure only this row, and write nothing; repeatable
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
    /// Measure this many rounds instead of each row's own number
    #[arg(long)]
    rounds: Option<u16>,
    /// Measure so little that it takes a minute, in one round, without a node, and write nothing:
    /// the figures mean nothing
    #[arg(long)]
    smoke: bool,
}

/// Builds the programs, measures them and prints the table. A run of all rows also writes
/// docs/benchmarks.md.
pub(crate) fn run(workspace: &Workspace, choice: &Choice) -> Result<()> {
    let node = if choice.needs_node() {
        Some(Node::prepare(workspace)?)
    } else {
        None
    };
    let measured = measure(workspace, choice, node.as_ref());
    if let Some(node) = node {
        node.scenario.remove_namespace();
    }
    measured
}

impl Choice {
    fn needs_node(&self) -> bool {
        let chosen = self.only.iter().any(|row| ON_NODE.contains(&row.as_str()));
        chosen || (self.only.is_empty() && !self.smoke)
    }
}

/// The test node with the operator.
struct Node<'a> {
    scenario: Scenario<'a>,
    program: PathBuf,
    variables: [(&'static str, OsString); 5],
}

impl<'a> Node<'a> {
    fn prepare(workspace: &'a Workspace) -> Result<Self> {
        let started = SystemTime::now();
        let program = image::compile_benchmark(workspace, "gateway-queue-e2e", "node")?;
        let target = Target::prepare(workspace, target::Choice::default())?;
        let scenario = Scenario::prepare(workspace, target.clone(), NAMESPACE)?;
        let variables = target.variables(scenario.namespace(), started);
        Ok(Self {
            scenario,
            program,
            variables,
        })
    }
}

/// Builds the other programs, and runs the benchmarks.
fn measure(workspace: &Workspace, choice: &Choice, node: Option<&Node<'_>>) -> Result<()> {
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
    if let Some(node) = node {
        bench.arg("--node").arg(&node.program);
        bench.envs(node.variables.iter().map(|(name, value)| (name, value)));
    }
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
