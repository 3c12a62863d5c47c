//! The alerts, by promtool: whether their rules are valid, and when they fire.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use testnode::host::process;

use super::{Check, REGISTRY};

/// Tests of each alert: when it fires, when it does not, and when its series are absent.
const TESTS: &str = "tests/alerts.promtool.yaml";

pub(super) fn check(check: &Check<'_>) -> Result<()> {
    let rendered = check.render(
        &check.helms[1],
        &[REGISTRY, "prometheusRule: {enabled: true}"],
        &[
            "--namespace=discord",
            "--show-only=templates/prometheusrule.yaml",
        ],
    )?;
    let rules = rules(&rendered).context("the PrometheusRule has no spec")?;
    let tests = fs::read_to_string(check.chart.join(TESTS)).context("reading the tests")?;
    for rule in Rule::all(&rules) {
        let alert = rule.name;
        let missing = missing(&rule, &tests);
        if !missing.is_empty() {
            bail!("{TESTS} lacks tests of {alert}: {}", missing.join(", "));
        }
        let runbook = format!("docs/runbooks/{alert}.md");
        if !check.workspace.root.join(&runbook).is_file() {
            bail!("the alert {alert} has no runbook {runbook}");
        }
    }
    let folder = check.scratch.path();
    fs::write(folder.join("rules.yaml"), rules).context("writing the rules")?;
    fs::write(folder.join("tests.yaml"), tests).context("writing the tests")?;
    for arguments in [
        ["check", "rules", "rules.yaml"],
        ["test", "rules", "tests.yaml"],
    ] {
        let mut promtool = Command::new(&check.promtool);
        process::output(promtool.args(arguments).current_dir(folder))?;
    }
    Ok(())
}

/// Returns the rule file in a PrometheusRule: its spec.
fn rules(rendered: &str) -> Option<String> {
    let (_, spec) = rendered.split_once("\nspec:\n")?;
    Some(spec.replace("\n  ", "\n").trim_start().to_owned())
}

/// An alert of a rule file.
struct Rule<'a> {
    name: &'a str,
    expression: &'a str,
}

impl<'a> Rule<'a> {
    fn all(rules: &'a str) -> impl Iterator<Item = Self> {
        rules.split("- alert: ").skip(1).map(|rule| {
            let name = rule.lines().next().unwrap_or_default();
            let from = rule.split_once("  expr: ").map_or("", |(_, rest)| rest);
            // The keys of a rule are sorted.
            let end = from.find("  for: ").or_else(|| from.find("  labels:"));
            let expression = end.and_then(|end| from.get(..end)).unwrap_or(from);
            Self { name, expression }
        })
    }

    /// Returns whether its expression contains this metric.
    fn uses(&self, metric: &str) -> bool {
        let mut words = self
            .expression
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        words.any(|word| word == metric)
    }
}

/// Returns the kinds of tests that an alert lacks. Its series are absent in a group of tests
/// without a series of any metric of the alert.
fn missing(rule: &Rule<'_>, tests: &str) -> Vec<&'static str> {
    let name = format!("alertname: {}\n", rule.name);
    let mut missing = vec!["it fires", "it does not fire", "its series are absent"];
    for group in tests.split("\n  - interval: ").skip(1) {
        let series = group.split("- series: ").skip(1);
        let mut metrics = series.filter_map(|series| series.split(['{', '\n']).next());
        let is_present = metrics.any(|metric| rule.uses(metric));
        let tests = group.split("- eval_time: ").skip(1);
        for test in tests.filter(|test| test.contains(&name)) {
            let found = match (is_present, test.contains("exp_alerts: []")) {
                (true, false) => "it fires",
                (true, true) => "it does not fire",
                (false, _) => "its series are absent",
            };
            missing.retain(|kind| *kind != found);
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_file_is_extracted_from_a_prometheus_rule() {
        let object = "kind: PrometheusRule\nspec:\n  groups:\n    - name: a\n      rules:\n      - alert: One\n";
        let rules = rules(object).unwrap();
        assert_eq!(
            rules,
            "groups:\n  - name: a\n    rules:\n    - alert: One\n"
        );
        let names: Vec<_> = Rule::all(&rules).map(|rule| rule.name).collect();
        assert_eq!(names, ["One"]);
    }

    #[test]
    fn each_alert_needs_a_test_of_each_kind() {
        let rules = "
    - alert: One
      annotations:
        summary: One is up
      expr: |-
        max(a{b=\"c\"}) == 1
        and d > 0
      for: 5m
    - alert: Two
      expr: absent(up)
      labels: {a: d}
";
        let [one, two] = &Rule::all(rules).collect::<Vec<_>>()[..] else {
            panic!("not two rules");
        };
        assert!(one.uses("a") && one.uses("d") && !one.uses("up"));
        assert!(two.uses("up") && !two.uses("d"));

        let group = |series: &str, moments: &[(&str, bool)]| {
            let moments = moments.iter().map(|(alert, is_due)| {
                let expected = if *is_due { "\n          - exp_labels: {}" } else { " []" };
                format!("      - eval_time: 5m\n        alertname: {alert}\n        exp_alerts:{expected}\n")
            });
            let moments: String = moments.collect();
            format!("\n  - interval: 30s\n    input_series:\n      - series: {series}\n{moments}")
        };
        let mut tests = group(
            "a{b=\"c\"}",
            &[("One", true), ("One", false), ("One", false)],
        );
        assert_eq!(missing(one, &tests), ["its series are absent"]);
        // One of its two metrics is present.
        tests += &group("d", &[("One", false), ("Two", true)]);
        assert_eq!(missing(one, &tests), ["its series are absent"]);
        tests += &group("up", &[("One", false), ("Two", false)]);
        assert_eq!(missing(one, &tests), [""; 0]);
        assert_eq!(missing(two, &tests), ["it fires"]);
        assert_eq!(missing(two, "").len(), 3);
    }
}
