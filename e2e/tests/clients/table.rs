//! The table that `cargo xtask test` prints.

use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use gateway_queue_e2e::fake::record::Totals;

use crate::examples::{Example, SHARDS};

/// Adds a row to the file that `CLIENTS_ROWS` names.
pub(crate) fn add(example: &Example, totals: Totals, granted: usize, start: Duration) {
    let Ok(path) = std::env::var("CLIENTS_ROWS") else {
        return;
    };
    let row = format!(
        "{}\t{}\t{} of {SHARDS}\t{}\t{}\t{:.1}\n",
        example.library,
        example.version().unwrap_or_default(),
        totals.ready.min(SHARDS),
        totals.violations,
        granted.saturating_sub(totals.identifies),
        start.as_secs_f64(),
    );
    let file = File::options().append(true).create(true).open(path);
    // In one write, as other tests append to it, too.
    file.unwrap().write_all(row.as_bytes()).unwrap();
}
