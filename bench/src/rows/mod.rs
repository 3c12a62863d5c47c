//! All rows, in the order of the table.

mod cold_start;
mod gateway_queues;
mod growth;
mod idle;
mod lateness;
mod load;
mod ready;
mod rollout;
mod scheduler;
mod size;
mod staggered;
mod start;
mod waiting;

use crate::row::Row;

/// All rows. `xtask/src/bench.rs` lists those that need a node, too.
pub const ROWS: [&Row; 12] = [
    &waiting::ROW,
    &lateness::ROW,
    &cold_start::ROW,
    &staggered::ROW,
    &scheduler::ROW,
    &idle::ROW,
    &start::ROW,
    &size::ROW,
    &growth::ROW,
    &rollout::ROW,
    &ready::ROW,
    &gateway_queues::ROW,
];
