//! Shows the shards live, until all are ready.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;

use super::report::{self, HEADING};
use crate::interrupt;
use crate::kubernetes::{Kubernetes, wait_for};

/// Pods that do not even start take this long to be given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Prints a row for each identify that was answered, and returns the record
/// when `shards` shards are ready.
///
/// # Errors
/// When that takes too long.
pub(crate) fn until_ready(kubernetes: &Kubernetes, namespace: &str, shards: u32) -> Result<Value> {
    let record =
        format!("/api/v1/namespaces/{namespace}/services/fake-discord:control/proxy/record");
    println!("\n{HEADING}");
    let started = Instant::now();
    let mut shown = BTreeSet::new();
    let mut start = None;
    let mut version = None;
    loop {
        interrupt::check()?;
        if started.elapsed() > PATIENCE {
            bail!("after {} s not all shards are ready", PATIENCE.as_secs());
        }
        let path = match version {
            Some(version) => format!("{record}?after={version}"),
            None => record.clone(),
        };
        // Each answer waits for the next event; a proxy in between may fail.
        let said = wait_for("the record of the fake Discord", PATIENCE, || {
            kubernetes.raw(&path).map(Some)
        })?;
        version = said["version"].as_u64();
        let notes = report::notes(&logs(kubernetes, namespace)?);
        if start.is_none() {
            start = notes.iter().map(|note| note.t).min();
        }
        let rows = report::rows(&said, &notes);
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
            return Ok(said);
        }
    }
}

fn logs(kubernetes: &Kubernetes, namespace: &str) -> Result<String> {
    let selector = "app.kubernetes.io/name=bot";
    let logs = [
        "logs",
        "--selector",
        selector,
        "--tail=-1",
        "--ignore-errors",
    ];
    // A pod that has not started yet has none.
    Ok(kubernetes
        .kubectl(&[&["--namespace", namespace], &logs[..]].concat())
        .unwrap_or_default())
}
