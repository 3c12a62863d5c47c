//! The chart as users install it, with helm 3 and helm 4, on a real node.
//! `cargo xtask test` prepares the node and the images, and runs these tests.
//!
//! Each test has its own namespaces and releases. The CustomResourceDefinition is one for the
//! whole cluster: a test that changes it runs alone and restores it.

// clippy knows only the test functions themselves as tests.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod admission;
mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod definition;
mod election;
mod helm;
mod life;
mod monitoring;
mod notes;
mod subchart;
