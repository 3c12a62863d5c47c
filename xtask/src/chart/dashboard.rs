//! The dashboard's expressions, by promtool: can Prometheus read each of them?

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::Check;
use crate::process;

const FILE: &str = "files/dashboard.json";

pub(super) fn check(check: &Check<'_>) -> Result<()> {
    let text = fs::read_to_string(check.chart.join(FILE)).context("reading the dashboard")?;
    let dashboard: Value = serde_json::from_str(&text).context("the dashboard is no JSON")?;
    let expressions = expressions(&dashboard);
    if expressions.is_empty() {
        bail!("no panel of the dashboard asks anything");
    }
    // As recording rules, since that is what promtool reads.
    let rules: Vec<Value> = expressions
        .iter()
        .enumerate()
        .map(|(number, expression)| json!({"record": format!("panel_{number}"), "expr": filled(expression)}))
        .collect();
    let rules = json!({"groups": [{"name": "dashboard", "rules": rules}]});
    let file = check.scratch.path().join("dashboard.yaml");
    fs::write(&file, rules.to_string()).context("writing the expressions")?;
    let mut promtool = Command::new(&check.promtool);
    process::output(promtool.args(["check", "rules"]).arg(&file)).map(|_| ())
}

/// Everything that a panel asks Prometheus, in the order of the panels.
pub(super) fn expressions(dashboard: &Value) -> Vec<&str> {
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    panels
        .flat_map(|panel| panel["targets"].as_array().into_iter().flatten())
        .filter_map(|target| target["expr"].as_str())
        .collect()
}

/// An expression with what Grafana puts in for its variables.
pub(super) fn filled(expression: &str) -> String {
    expression
        .replace("$__rate_interval", "2m")
        .replace("$__range", "1h")
        .replace("$namespace", ".*")
        .replace("$gatewayqueue", ".*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_of_every_panel_is_found_and_filled_in() {
        let dashboard = json!({"panels": [
            {"targets": [{"expr": "up{namespace=~\"$namespace\"}"}, {"expr": "b[$__rate_interval]"}]},
            {"type": "row"},
        ]});
        let found = expressions(&dashboard);
        assert_eq!(found.len(), 2);
        assert_eq!(filled(found[0]), "up{namespace=~\".*\"}");
        assert_eq!(filled(found[1]), "b[2m]");
    }
}
