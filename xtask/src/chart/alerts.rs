//! The alerts, by promtool: are they rules, and does each come when it is due?

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Check;
use crate::process;

/// Moments in which an alert is due, in which it is not, and in which its series are absent.
const TESTS: &str = "tests/alerts.promtool.yaml";

pub(super) fn check(check: &Check<'_>) -> Result<()> {
    let rendered = check.render(
        &check.helms[1],
        &[
            "--namespace=discord",
            "--set=prometheusRule.renderMode=alwaysRender",
            "--show-only=templates/prometheusrule.yaml",
        ],
    )?;
    let rules = rules(&rendered).context("the PrometheusRule has no spec")?;
    let tests = fs::read_to_string(check.chart.join(TESTS)).context("reading the tests")?;
    for alert in names(&rules) {
        let due = format!("alertname: {alert}\n");
        if tests.matches(&due).count() < 3 {
            bail!(
                "{TESTS} needs three moments for {alert}: it is due, it is not, its series are absent"
            );
        }
        let runbook = format!("docs/runbooks/{alert}.md");
        if !check.workspace.root.join(&runbook).is_file() {
            bail!("the alert {alert} has no runbook {runbook}");
        }
    }
    let folder = check.scratch.path();
    fs::write(folder.join("rules.yaml"), rules).context("writing the rules")?;
    fs::write(folder.join("tests.yaml"), tests).context("writing the tests")?;
    let promtool = &check.promtool;
    for arguments in [
        ["check", "rules", "rules.yaml"],
        ["test", "rules", "tests.yaml"],
    ] {
        process::output(Command::new(promtool).args(arguments).current_dir(folder))?;
    }
    Ok(())
}

/// The file of rules that a PrometheusRule holds: its spec, as it stands there.
fn rules(rendered: &str) -> Option<String> {
    let (_, spec) = rendered.split_once("\nspec:\n")?;
    let lines = spec
        .lines()
        .map(|line| line.strip_prefix("  ").unwrap_or(line));
    Some(lines.collect::<Vec<_>>().join("\n") + "\n")
}

fn names(rules: &str) -> impl Iterator<Item = &str> {
    rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_cut_out_of_its_object() {
        let object = "kind: PrometheusRule\nspec:\n  groups:\n    - name: a\n      rules:\n      - alert: One\n";
        let rules = rules(object).unwrap();
        assert_eq!(
            rules,
            "groups:\n  - name: a\n    rules:\n    - alert: One\n"
        );
        assert_eq!(names(&rules).collect::<Vec<_>>(), ["One"]);
    }
}
