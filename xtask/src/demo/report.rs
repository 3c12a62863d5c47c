//! The record of the fake Discord and the logs of the bot's pods, as rows and a summary.
//! Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;

/// An event of a shard in the log of its pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Note {
    /// Unix milliseconds.
    pub(crate) t: u64,
    pub(crate) shard: u64,
    pub(crate) event: String,
}

/// One identify, from the request for a grant to READY. Times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) shard: u64,
    pub(crate) bucket: u64,
    pub(crate) asked: Option<u64>,
    pub(crate) granted: Option<u64>,
    pub(crate) identified: u64,
    pub(crate) ready: Option<u64>,
    pub(crate) since_last_ms: Option<f64>,
    pub(crate) violation: Option<String>,
}

/// Returns the events in a pod's log. Other lines are warnings.
pub(crate) fn notes(log: &str) -> Vec<Note> {
    log.lines()
        .filter_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            Some(Note {
                t: line["t"].as_u64()?,
                shard: line["shard"].as_u64()?,
                event: line["event"].as_str()?.to_owned(),
            })
        })
        .collect()
}

/// Returns one row for each identify of the record.
pub(crate) fn rows(record: &Value, notes: &[Note]) -> Vec<Row> {
    let identifies = record["identifies"].as_array();
    identifies
        .into_iter()
        .flatten()
        .filter_map(|identify| {
            let shard = identify["shard"].as_u64()?;
            let identified = identify["t"].as_u64()?;
            // The last such event until then: pods on one node share a clock, which is
            // rounded to milliseconds.
            let last = |event: &str, until: u64| {
                let of_shard = notes
                    .iter()
                    .filter(|n| n.shard == shard && n.event == event);
                of_shard.map(|n| n.t).filter(|t| *t <= until + 1).max()
            };
            let granted = last("granted", identified);
            Some(Row {
                shard,
                bucket: identify["bucket"].as_u64()?,
                asked: granted.and_then(|granted| last("asked", granted)),
                granted,
                identified,
                ready: identify["ready_t"].as_u64(),
                since_last_ms: identify["since_last_ms"].as_f64(),
                violation: identify["violation"].as_str().map(str::to_owned),
            })
        })
        .collect()
}

/// The heading of the table of rows.
pub(crate) const HEADING: &str =
    "  shard  bucket     asked   granted     READY   after its bucket's last identify";

impl Row {
    /// Returns the row as text. Seconds count from `start`.
    pub(crate) fn text(&self, start: u64) -> String {
        let seconds = |t: Option<u64>| match t {
            Some(t) => format!("{:.2} s", t.saturating_sub(start) as f64 / 1000.0),
            None => "-".to_owned(),
        };
        let since = match (self.since_last_ms, &self.violation) {
            (None, _) => "the first".to_owned(),
            (Some(ms), None) => format!("{:.3} s", ms / 1000.0),
            (Some(ms), Some(rule)) => format!("{:.3} s: {rule}!", ms / 1000.0),
        };
        format!(
            "{:>7} {:>7} {:>9} {:>9} {:>9}   {since}",
            self.shard,
            self.bucket,
            seconds(self.asked),
            seconds(self.granted),
            seconds(self.ready),
        )
    }
}

/// The result of the demo.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Summary {
    expected: u32,
    ready: usize,
    violations: usize,
    /// From the first identify to the last READY, as recorded by the fake Discord.
    taken: Duration,
    ideal: Duration,
}

impl Summary {
    /// Summarizes the record of `expected` shards in `buckets` buckets.
    pub(crate) fn of(record: &Value, expected: u32, buckets: u32, spacing: Duration) -> Self {
        let rows = rows(record, &[]);
        let ready: BTreeSet<u64> = rows
            .iter()
            .filter(|row| row.ready.is_some())
            .map(|row| row.shard)
            .collect();
        let first = rows.iter().map(|row| row.identified).min();
        let last = rows.iter().filter_map(|row| row.ready).max();
        let taken = first.zip(last).map_or(0, |(f, l)| l.saturating_sub(f));
        Self {
            expected,
            ready: ready.len(),
            violations: record["violations"].as_array().map_or(0, Vec::len),
            taken: Duration::from_millis(taken),
            ideal: spacing * (expected.div_ceil(buckets) - 1),
        }
    }

    /// Returns the result as one line.
    pub(crate) fn line(&self) -> String {
        format!(
            "{} of {} shards ready, {} identifies too early, {:.2} s from the first identify to the last READY (ideal: {:.2} s)",
            self.ready,
            self.expected,
            self.violations,
            self.taken.as_secs_f64(),
            self.ideal.as_secs_f64(),
        )
    }

    pub(crate) fn verdict(&self) -> Result<()> {
        if self.violations > 0 {
            bail!("{} identifies broke Discord's rules", self.violations);
        }
        if self.ready < self.expected as usize {
            bail!("only {} of {} shards are ready", self.ready, self.expected);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SPACING: Duration = Duration::from_millis(5250);

    fn record() -> Value {
        json!({
            "identifies": [
                {"t": 10_000, "shard": 0, "bucket": 0, "since_last_ms": null, "violation": null, "ready_t": 10_003},
                {"t": 15_251, "shard": 2, "bucket": 0, "since_last_ms": 5251.2, "violation": null, "ready_t": 15_260},
            ],
            "violations": [],
        })
    }

    #[test]
    fn each_identify_is_a_row_with_the_earlier_events_of_its_pod() {
        let log = r#"a warning, say
            {"t":9000,"shard":2,"event":"asked"}
            {"t":9990,"shard":0,"event":"asked"}
            {"t":9999,"shard":0,"event":"granted"}
            {"t":15250,"shard":2,"event":"granted"}
            {"t":99999,"shard":2,"event":"asked"}"#;
        let rows = rows(&record(), &notes(log));
        assert_eq!(rows[0].asked, Some(9990));
        assert!(rows[0].text(0).ends_with("the first"));
        assert_eq!((rows[1].asked, rows[1].granted), (Some(9000), Some(15_250)));
        let text = rows[1].text(9000);
        assert!(
            text.contains("6.25 s") && text.ends_with("5.251 s"),
            "{text}"
        );
    }

    #[test]
    fn the_demo_fails_without_a_shard_or_with_a_violation() {
        let summary = Summary::of(&record(), 2, 1, SPACING);
        summary.verdict().unwrap();
        assert_eq!(
            summary.line(),
            "2 of 2 shards ready, 0 identifies too early, 5.26 s from the first identify to the last READY (ideal: 5.25 s)"
        );
        assert!(Summary::of(&record(), 3, 1, SPACING).verdict().is_err());
        let mut record = record();
        record["violations"] = json!([{}]);
        assert!(Summary::of(&record, 2, 1, SPACING).verdict().is_err());
    }
}
