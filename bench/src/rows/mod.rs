//! All rows, in the order of the table.

mod cold_start;
mod growth;
mod idle;
mod lateness;
mod load;
mod scheduler;
mod size;
mod staggered;
mod start;
mod waiting;

use crate::row::Row;

/// All rows. Those of the operator will follow these.
pub const ROWS: [&Row; 9] = [
    &waiting::ROW,
    &lateness::ROW,
    &cold_start::ROW,
    &staggered::ROW,
    &scheduler::ROW,
    &idle::ROW,
    &start::ROW,
    &size::ROW,
    &growth::ROW,
];
