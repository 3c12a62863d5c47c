//! Measures the operator and a rollout on a real node, for a row of `cargo xtask bench`, which
//! prepares the node and passes the environment.
//!
//! `node ROW ROUNDS` prints one JSON document: the values of the row's figures, ours and the
//! peer's, and the points of its plots. It uses the helpers of `tests/cluster`.

// As in tests: what fails ends the program with an error.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]
// It does not use all of the helpers.
#![allow(dead_code, unused_imports)]

#[path = "../../tests/cluster/api.rs"]
mod api;
mod bare;
#[path = "../../tests/common/mod.rs"]
mod common;
mod figures;
mod gateway_queues;
#[path = "../../tests/cluster/kubectl.rs"]
mod kubectl;
#[path = "../../tests/cluster/thousand/leaders.rs"]
mod leaders;
mod lines;
#[path = "../../tests/cluster/operator_process.rs"]
mod operator_process;
#[path = "../../tests/cluster/operator_requests.rs"]
mod operator_requests;
#[path = "../../tests/cluster/process.rs"]
mod process;
mod ready;
mod rollout;
#[path = "../../tests/cluster/schedule.rs"]
mod schedule;
#[path = "../../tests/cluster/wait.rs"]
mod wait;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [row, rounds] = &arguments[..] else {
        panic!("usage: node ROW ROUNDS; `cargo xtask bench` runs it");
    };
    let rounds = rounds.parse().expect("ROUNDS is a number");
    let measured = match row.as_str() {
        "gateway-queues" => gateway_queues::measure(rounds),
        "ready" => ready::measure(rounds),
        "rollout" => rollout::measure(rounds),
        row => panic!("no row {row}"),
    };
    println!("{measured}");
}
