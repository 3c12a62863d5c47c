//! Load that keeps the whole machine busy.
//!
//! A test program of its own, because programs run one after the other; and in it one test at
//! a time, because each measures times or memory.

// A test fails by panicking.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
#[allow(dead_code)]
mod common;
mod hostile;
mod made_up_shards;
mod many_clients;
mod processor;

use std::sync::{Mutex, MutexGuard, PoisonError};

static MACHINE: Mutex<()> = Mutex::new(());

/// Waits until no other test here runs.
fn alone() -> MutexGuard<'static, ()> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}
