//! What a user of a real cluster sees. `cargo xtask test` prepares the cluster, installs the
//! chart and runs these tests; without it they fail.

// clippy recognizes only the test functions themselves as tests.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod admission;
mod api;
mod children;
#[path = "../common/mod.rs"]
mod common;
mod faults;
mod fields;
mod kubectl;
mod lifecycle;
mod operator_failover;
mod operator_process;
mod operator_requests;
mod operator_rights;
mod owners;
mod process;
mod races;
mod random_edits;
mod reasons;
mod restricted;
mod schedule;
mod specs;
mod thousand;
mod wait;
