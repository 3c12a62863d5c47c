//! The program, at work with an API server of this process.

// A test fails by panicking.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod operator;
mod outage;
mod signals;
