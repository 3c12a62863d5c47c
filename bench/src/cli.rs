//! The command line.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Parser;

use crate::bench::{Bench, Programs, Scale};
use crate::report::document::{self, Finished};
use crate::report::machine::Machine;
use crate::row::Row;
use crate::rows::ROWS;

/// Measures the queue beside its peer. `cargo xtask bench` builds all that it needs.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Arguments {
    /// The checkout; a run of all rows writes docs/benchmarks.md there
    #[arg(long)]
    root: PathBuf,
    /// The binary of our server
    #[arg(long)]
    queue: PathBuf,
    /// The binary of the peer's server
    #[arg(long)]
    peer: PathBuf,
    /// The binary of our operator
    #[arg(long)]
    operator: Option<PathBuf>,
    /// The image of our server
    #[arg(long)]
    queue_image: Option<PathBuf>,
    /// The image of the peer's server
    #[arg(long)]
    peer_image: Option<PathBuf>,
    /// The image of our operator
    #[arg(long)]
    operator_image: Option<PathBuf>,
    /// The program that measures on a node (`e2e/benches/node`)
    #[arg(long)]
    node: Option<PathBuf>,
    /// Measure only this row, and write nothing; repeatable
    #[arg(long, value_name = "ROW", value_parser = ROWS.map(|row| row.name))]
    only: Vec<String>,
    /// Measure this many rounds instead of the row's own number
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Measure so little that it takes a minute, in one round, without a node, and write nothing:
    /// the figures mean nothing
    #[arg(long)]
    smoke: bool,
}

/// Runs the benchmarks that the command line names.
///
/// # Errors
///
/// If a row could not be measured, or the document could not be written.
pub fn run() -> Result<()> {
    let arguments = Arguments::parse();
    let started = Instant::now();
    let progress = |text: String| println!("[{:>4} s] {text}", started.elapsed().as_secs());
    // Before the load of the benchmarks themselves.
    let machine = Machine::read(&arguments.root);
    let scale = if arguments.smoke {
        Scale::SMOKE
    } else {
        Scale::FULL
    };
    let programs = Programs {
        queue: arguments.queue,
        peer: arguments.peer,
        operator: arguments.operator,
        queue_image: arguments.queue_image,
        peer_image: arguments.peer_image,
        operator_image: arguments.operator_image,
        node: arguments.node,
    };
    let bench = Bench::new(programs, scale)?;
    let only = &arguments.only;
    let is_chosen = |row: &&Row| {
        (only.is_empty() && !(arguments.smoke && row.on_node))
            || only.iter().any(|only| only == row.name)
    };
    let (mut finished, mut failed) = (Vec::new(), Vec::new());
    for row in ROWS.into_iter().filter(is_chosen) {
        let rounds = match arguments.rounds {
            Some(rounds) => rounds.into(),
            None if arguments.smoke => 1,
            None => row.rounds,
        };
        progress(format!("{}, rounds: {rounds}", row.name));
        // A row that fails does not lose those before it.
        match (row.measure)(&bench, rounds) {
            Ok(measured) => finished.push(Finished {
                row,
                rounds,
                measured,
            }),
            Err(error) => {
                progress(format!("{} failed: {error:#}", row.name));
                failed.push(row.name);
            }
        }
    }
    println!("\n{}", document::table_of(&finished));
    if !failed.is_empty() {
        bail!("not measured: {}", failed.join(", "));
    }
    if only.is_empty() && !arguments.smoke {
        let docs = arguments.root.join("docs");
        document::write(&docs, &machine, &finished)?;
        progress(format!("wrote {}", docs.join("benchmarks.md").display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_valid_and_knows_the_rows() {
        Arguments::command().debug_assert();
        let files = ["bench", "--root", ".", "--queue", "a", "--peer", "b"];
        let parse = |more: &[&str]| Arguments::try_parse_from(files.iter().chain(more));
        assert!(parse(&["--only", "idle", "--only", "start", "--rounds", "2"]).is_ok());
        assert!(parse(&["--only", "nothing"]).is_err());
        assert!(parse(&["--rounds", "0"]).is_err());
    }
}
