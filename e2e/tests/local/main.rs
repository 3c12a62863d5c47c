//! The fake Discord, the bot and the queue as real processes on loopback, with intervals of a
//! second. The demo does the same on a real cluster.

// clippy recognizes only the test functions themselves as tests.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod answers;
mod fake;
#[allow(dead_code)] // The tests of the clients use more of it.
mod process;
mod program;
#[allow(dead_code)] // The tests of the page use more of it.
mod queue;
mod shards;
mod specs;
mod unpaced;
