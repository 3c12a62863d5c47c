//! The queue's status page in a real browser: what it shows, and that it is accessible. Needs
//! Debian's `chromium` and `chromium-driver`.

// clippy recognizes only the test functions themselves as tests.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod browser;
#[allow(dead_code)] // The other tests use more of it.
#[path = "../local/fake.rs"]
mod fake;
mod leader;
mod pods;
#[allow(dead_code)] // The other tests use more of it.
#[path = "../local/process.rs"]
mod process;
#[path = "../local/program.rs"]
mod program;
#[path = "../local/queue.rs"]
mod queue;
mod queues;
mod shows;
mod usable;
