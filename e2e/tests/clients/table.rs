//! The table that `cargo xtask test` prints.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use gateway_queue_e2e::fake::record::Record;

use crate::examples::{Example, SHARDS};

/// The row of a client. When it is dropped, it is added to the file that `CLIENTS_ROWS` names.
pub(crate) struct Row<'a> {
    example: &'a Example,
    /// The last record of Discord.
    pub(crate) record: Option<Record>,
    /// How many grants the queue made.
    pub(crate) granted: Option<usize>,
    /// How long it took until the shards were ready for the first time.
    pub(crate) start: Option<Duration>,
}

impl<'a> Row<'a> {
    pub(crate) fn of(example: &'a Example) -> Self {
        Self {
            example,
            record: None,
            granted: None,
            start: None,
        }
    }

    fn text(&self) -> String {
        let identifies = self.record.iter().flat_map(|record| &record.identifies);
        let ready = identifies.filter(|identify| identify.ready_t.is_some());
        let ready: BTreeSet<u32> = ready.map(|identify| identify.shard).collect();
        let totals = self.record.as_ref().map(|record| record.totals);
        let wasted = totals.zip(self.granted).map(|(totals, granted)| {
            let wasted = granted.saturating_sub(totals.identifies);
            wasted.to_string()
        });
        let unknown = || "-".to_owned();
        let columns = [
            self.example.library.to_owned(),
            self.example.version().unwrap_or_default(),
            format!("{} of {SHARDS}", ready.len()),
            totals.map_or_else(unknown, |totals| totals.violations.to_string()),
            wasted.unwrap_or_else(unknown),
            self.start
                .map_or_else(unknown, |start| format!("{:.1}", start.as_secs_f64())),
        ];
        columns.join("\t") + "\n"
    }
}

impl Drop for Row<'_> {
    fn drop(&mut self) {
        let Ok(path) = std::env::var("CLIENTS_ROWS") else {
            return;
        };
        let file = File::options().append(true).create(true).open(path);
        // In one write, as other tests append to it, too. A panic while a test fails would end
        // all tests.
        let written = file.and_then(|mut file| file.write_all(self.text().as_bytes()));
        if let Err(error) = written {
            eprintln!("cannot add the row: {error}");
        }
    }
}
