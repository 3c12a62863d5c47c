//! Figures that another program measures on a real node.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::bench::Bench;
use crate::row::Values;

/// What the program prints for a row.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Report {
    /// The values of the row's figures, in their order.
    pub(crate) values: Vec<Values>,
    /// The points of the row's plots, in their order.
    #[serde(default)]
    pub(crate) series: Vec<Series>,
}

/// The points of a plot.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Series {
    pub(crate) ours: Vec<(f64, f64)>,
    pub(crate) peer: Vec<(f64, f64)>,
}

/// Runs the program for a row.
pub(crate) fn measure(bench: &Bench, row: &str, rounds: usize) -> Result<Report> {
    let program = bench.programs.node.as_ref();
    let program = program.context("it is measured on a node, by the program of --node")?;
    let mut command = Command::new(program);
    command.arg(row).arg(rounds.to_string());
    // What it reports meanwhile goes to the log.
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("could not start {}", program.display()))?;
    if !output.status.success() {
        bail!("{} failed: {}", program.display(), output.status);
    }
    let report: Report = serde_json::from_slice(&output.stdout).context("reading its report")?;
    let complete = report
        .values
        .iter()
        .all(|values| values.ours.len() == rounds);
    ensure!(complete, "not {rounds} values of each figure");
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_values_and_may_have_points() {
        let report = r#"{"values": [{"ours": [1.5, 2], "peer": []}],
            "series": [{"ours": [[10, 0.5]], "peer": [[10, 1]]}]}"#;
        let report: Report = serde_json::from_str(report).unwrap();
        assert_eq!(report.values[0].ours, [1.5, 2.0]);
        assert_eq!(report.series[0].peer, [(10.0, 1.0)]);
        let report: Report = serde_json::from_str(r#"{"values": []}"#).unwrap();
        assert!(report.values.is_empty() && report.series.is_empty());
    }
}
