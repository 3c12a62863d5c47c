//! Each row measures both sides, with numbers so small that the figures mean nothing.

// A test fails by panicking.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use gateway_queue_bench::bench::{Bench, Programs, Scale};
use gateway_queue_bench::row::{Row, Values};
use gateway_queue_bench::rows::ROWS;
use serde_json::Value;

/// Our server. Cargo passes to a test only the paths of its own package's binaries. The command is
/// a part of `cargo test --workspace`, with the same features, so that nothing is built twice: the
/// test `peer` of the server's package needs the binary, and is small.
static QUEUE: LazyLock<PathBuf> = LazyLock::new(|| {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["test", "--quiet", "--workspace", "--no-run"])
        .args(["--test", "peer"])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit());
    // cargo's variables about this package would cause some build scripts to run again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let own = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
        if own.iter().any(|prefix| text.starts_with(prefix)) {
            cargo.env_remove(&name);
        }
    }
    let output = cargo.output().expect("cannot start cargo");
    assert!(output.status.success(), "the workspace does not build");
    let messages = String::from_utf8(output.stdout).unwrap();
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut programs = messages
        .filter(|message| message["target"]["name"] == "gateway-queue")
        .filter(|message| message["profile"]["test"] == false)
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    programs.next().expect("cargo reports no binary")
});

/// Measures one row, and returns the values of its figures.
fn measure(name: &str) -> Vec<Values> {
    let programs = Programs {
        queue: QUEUE.clone(),
        peer: env!("CARGO_BIN_EXE_peer").into(),
        operator: None,
        queue_image: None,
        peer_image: None,
        operator_image: None,
        node: None,
    };
    let bench = Bench::new(programs, Scale::SMOKE).unwrap();
    let row: &Row = ROWS.into_iter().find(|row| row.name == name).unwrap();
    let measured = (row.measure)(&bench, 1).unwrap();
    assert_eq!(measured.values.len(), row.figures.len());
    measured.values
}

/// Returns how many values each figure has, of ours and of the peer.
fn counts(values: &[Values]) -> Vec<(usize, usize)> {
    let count = |values: &Values| (values.ours.len(), values.peer.len());
    values.iter().map(count).collect()
}

/// Measures a row of whose figures both sides have a value.
fn measures_both(name: &str) {
    for values in measure(name) {
        assert_eq!((values.ours.len(), values.peer.len()), (1, 1), "{values:?}");
        assert!(
            values.ours[0].is_finite() && values.peer[0].is_finite(),
            "{values:?}"
        );
    }
}

#[test]
fn waiting_clients() {
    measures_both("waiting");
}

#[test]
fn a_cold_start() {
    let values = measure("cold-start");
    // 8 shards in 4 buckets: both grant the second half 5 s after the first.
    for seconds in values[0].ours.iter().chain(&values[0].peer) {
        assert!((5.0..15.0).contains(seconds), "{values:?}");
    }
}

#[test]
fn staggered_arrivals() {
    measures_both("staggered");
}

#[test]
fn the_scheduler_alone() {
    measures_both("scheduler");
}

#[test]
fn idle_servers() {
    measures_both("idle");
}

#[test]
fn the_start_of_a_process() {
    measures_both("start");
}

#[test]
fn only_our_server_counts_late_grants() {
    let values = measure("lateness");
    assert_eq!(
        counts(&values),
        [(1, 1), (1, 1), (1, 1), (1, 0), (1, 0), (1, 0)]
    );
    let late_percent = values[3].ours[0];
    assert!((0.0..=100.0).contains(&late_percent), "{late_percent}");
}

#[test]
fn sizes_of_the_files_that_exist() {
    let values = measure("size");
    assert_eq!(counts(&values), [(1, 1), (0, 0), (0, 0), (0, 0)]);
}

#[test]
fn growth() {
    // Of so few clients the memory may not grow at all, so there is no exponent.
    measure("growth");
}
