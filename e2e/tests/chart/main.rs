//! The chart as people use it: with helm 3 and helm 4, on a real node.
//! `cargo xtask test` prepares the node and the images, and runs these.
//!
//! They stand beside the operator that is installed there: each test has
//! namespaces and releases of its own. The CustomResourceDefinition is one for
//! the whole cluster, so one test at a time has it, and gives it back.

// clippy knows only the test functions themselves as tests.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod admission;
mod cluster;
mod dashboard;
mod definition;
mod examples;
mod helm;
mod life;
mod metrics;
mod monitors;
mod neighbours;
mod notes;
mod parent;
mod queue;
