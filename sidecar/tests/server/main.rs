//! The real binary, its clients and a Discord of a few lines, on loopback.
//!
//! One program of tests, as most of them mostly wait: all can do so at once.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod check;
mod clients;
mod common;
mod cut_network;
mod discord_answers;
mod hostile;
mod logs;
mod page;
mod rules;
mod session_starts;
mod start;
mod status;
mod wait;
