//! The developer's commands.

mod bench;
mod chart;
mod clients;
mod crd;
mod debian;
mod demo;
mod image;
mod install;
mod kubernetes;
mod programs;
mod target;
mod test;

use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};
use rustix::process::{Resource, getrlimit, setrlimit};
use testnode::NetworkSettings;
use testnode::host::{Workspace, interrupt};
use testnode::node;

use crate::target::Choice;
use crate::test::suites;

/// The developer's commands. They build or install everything they need.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    arg_required_else_help = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Start eight shards in four pods on a real node, paced by the queue
    Demo {
        #[command(flatten)]
        choice: Choice,
    },
    /// Run all tests, from the formatting to real shards on a real node
    #[command(after_help = suites::help())]
    Test {
        /// Run only this suite and the suites it needs; repeatable
        #[arg(long, value_name = "SUITE", value_parser = suites::names(), hide_possible_values = true)]
        only: Vec<String>,
        #[command(flatten)]
        choice: Choice,
    },
    /// Manage the Kubernetes node for tests on this machine
    #[command(subcommand)]
    Cluster(Cluster),
    /// Build the images, as files in target/images
    Image {
        /// Also push the images for users to REGISTRY/NAME:TAG
        #[arg(long, value_name = "REGISTRY")]
        push: Option<String>,
    },
    /// Measure the queue beside its peer, and write docs/benchmarks.md
    Bench(bench::Choice),
    /// Generate the CustomResourceDefinition from the operator's type
    Crd,
    /// Check the chart, with the API schemas of the running node
    Chart {
        /// Generate the chart's README from its values instead
        #[arg(long)]
        write: bool,
    },
}

#[derive(Debug, Subcommand)]
enum Cluster {
    /// Start the node, or keep a healthy one of this checkout
    Up,
    /// Remove the node and everything it left
    Down,
    /// Print the state of the node; the exit status is 0 if it is healthy
    Status,
    /// Print the path of the administrator's kubeconfig
    Kubeconfig,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    interrupt::listen()?;
    raise_open_files();
    let workspace = Workspace::find()?;
    let settings = NetworkSettings::IPV4;
    match task {
        Task::Cluster(Cluster::Up) => node::up(&workspace, &settings),
        Task::Cluster(Cluster::Down) => node::down(&workspace),
        Task::Cluster(Cluster::Status) => node::status(&workspace, &settings),
        Task::Cluster(Cluster::Kubeconfig) => {
            println!("{}", node::kubeconfig()?.display());
            Ok(())
        }
        Task::Demo { choice } => demo::run(&workspace, choice),
        Task::Test { only, choice } => test::run(&workspace, choice, &only),
        Task::Image { push } => {
            let images = image::build(&workspace)?;
            match push {
                Some(registry) => image::push(&workspace, &image::products(images), &registry),
                None => Ok(()),
            }
        }
        Task::Bench(choice) => bench::run(&workspace, &choice),
        Task::Crd => crd::generate(&workspace),
        Task::Chart { write: true } => chart::write_readme(&workspace),
        Task::Chart { write: false } => chart::check(&workspace, &target::node(&workspace)?, true),
    }
}

/// Raises the limit of open files, also for the programs that this one starts: tests open
/// a thousand connections, the usual limit. If that is refused, the limit stays.
fn raise_open_files() {
    const WANTED: u64 = 20_000;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < WANTED) {
        limit.current = Some(limit.maximum.map_or(WANTED, |maximum| maximum.min(WANTED)));
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// Returns a cargo command for the checkout, without the variables that `cargo run` sets
/// for xtask: a change to them causes build scripts, and everything behind them, to be
/// built again.
fn cargo(workspace: &Workspace) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&workspace.root);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let prefixes = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
        if prefixes.iter().any(|prefix| text.starts_with(prefix)) {
            cargo.env_remove(&name);
        }
    }
    cargo
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_valid_and_its_help_lists_commands_and_suites() {
        let mut command = Arguments::command();
        command.clone().debug_assert();
        assert!(command.render_help().to_string().contains("cluster"));
        let test = command.find_subcommand_mut("test").unwrap();
        assert!(test.render_help().to_string().contains("chart-on-node"));
        let parse = |line: &str| Arguments::try_parse_from(line.split(' '));
        assert!(parse("xtask test --only unit --only chart --kubeconfig a").is_ok());
        assert!(parse("xtask test --only nothing").is_err());
        assert!(parse("xtask bench --only idle --rounds 1").is_ok());
        // Our own node needs no registry.
        assert!(parse("xtask demo --registry a").is_err());
    }
}
