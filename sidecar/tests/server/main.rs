//! The real binary and pods in one process, with their clients, a fake Discord and a fake API
//! server, on loopback.
//!
//! Most of these tests mostly wait. They are one program, so that all can wait at the same time.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod agent;
mod check;
mod clients;
#[path = "../common/mod.rs"]
mod common;
mod cut_network;
mod discord_answers;
mod forwarding;
mod leadership;
mod limits;
mod logs;
mod page;
mod queue;
mod reports;
mod session_starts;
mod start;
mod status;
mod wait;
