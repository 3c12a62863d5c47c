//! Test support shared by the crates: fakes that speak the real protocol, and do
//! what a test tells them to.

// A test fails by panicking.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

pub mod api_server;
pub mod certificates;
pub mod lease;
