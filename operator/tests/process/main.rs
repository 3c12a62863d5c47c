//! The program as a process, with an API server of the test.

// A test fails by panicking.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod api_server;
mod operator;
mod outage;
mod signals;
