//! The examples of clients: the real libraries of several languages, each in a network namespace of
//! its own in which Discord's names lead to the fake, and `my-bot` leads to the real queue.

// clippy recognizes only the test functions themselves as tests.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod examples;
#[allow(dead_code)] // The other tests use more of it.
#[path = "../local/fake.rs"]
mod fake;
mod namespace;
mod plain;
#[allow(dead_code)] // The other tests use more of it.
#[path = "../local/process.rs"]
mod process;
#[path = "../local/program.rs"]
mod program;
mod proxy;
#[allow(dead_code)] // The other tests use more of it.
#[path = "../local/queue.rs"]
mod queue;
mod readme;
mod scene;
mod shards;
mod story;
mod table;
mod tls;
