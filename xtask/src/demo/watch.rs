//! Prints each shard that identifies, until all are ready.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;
use testnode::host::interrupt;

use super::report::{self, HEADING};
use crate::kubernetes::{Kubernetes, wait_for};

/// How long all shards may take.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Prints a row for each answered identify, and returns the record once `shards` shards are
/// ready.
pub(crate) fn until_ready(kubernetes: &Kubernetes, namespace: &str, shards: u32) -> Result<Value> {
    let record = super::record_path(namespace);
    println!("\n{HEADING}");
    let started = Instant::now();
    let mut shown = BTreeSet::new();
    let mut start = None;
    let mut version = None;
    loop {
        interrupt::check()?;
        if started.elapsed() > TIMEOUT {
            bail!("not all shards are ready after {} s", TIMEOUT.as_secs());
        }
        let path = match version {
            Some(version) => format!("{record}?after={version}"),
            None => record.clone(),
        };
        // The fake Discord answers at the next event; a proxy in between may time out.
        let latest = wait_for("the record of the fake Discord", TIMEOUT, || {
            kubernetes.raw(&path).map(Some)
        })?;
        version = latest["version"].as_u64();
        let notes = report::notes(&logs(kubernetes, namespace));
        if start.is_none() {
            start = notes.iter().map(|note| note.t).min();
        }
        let rows = report::rows(&latest, &notes);
        for (n, row) in rows.iter().enumerate() {
            let answered = row.ready.is_some() || row.violation.is_some();
            if answered && shown.insert(n) {
                println!("{}", row.text(start.unwrap_or(row.identified)));
            }
        }
        // A shard may have had to identify twice.
        let ready = rows.iter().filter(|row| row.ready.is_some());
        let ready: BTreeSet<u64> = ready.map(|row| row.shard).collect();
        if ready.len() >= shards as usize {
            return Ok(latest);
        }
    }
}

fn logs(kubernetes: &Kubernetes, namespace: &str) -> String {
    let bots = "--selector=app.kubernetes.io/name=bot";
    let logs = [
        "logs",
        "--tail=-1",
        "--ignore-errors",
        bots,
        "--namespace",
        namespace,
    ];
    // It fails for a pod that has not started.
    kubernetes.kubectl(&logs).unwrap_or_default()
}
