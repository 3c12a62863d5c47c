//! Test support shared by the crates: fakes that speak the real protocols and do what a test
//! scripts.

// A test fails by panicking.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

pub mod api_server;
pub mod certificates;
pub mod discord;
pub mod manual_server;
pub mod scripted_server;
