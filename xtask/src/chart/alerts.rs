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
    for rule in Rule::all(&rules) {
        let alert = rule.name;
        let missing = missing(&rule, &tests);
        if !missing.is_empty() {
            bail!(
                "{TESTS} has no moment for {alert} in which {}",
                missing.join(", nor one in which ")
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

/// An alert of a file of rules.
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

    /// Whether its expression names this metric.
    fn uses(&self, metric: &str) -> bool {
        let mut words = self
            .expression
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        words.any(|word| word == metric)
    }
}

/// The kinds of moments that the tests lack for an alert. Series are absent in a group of
/// tests without any series of a metric that the alert uses.
fn missing(rule: &Rule<'_>, tests: &str) -> Vec<&'static str> {
    let name = format!("alertname: {}\n", rule.name);
    let (mut is_due, mut is_not, mut is_absent) = (false, false, false);
    for group in tests.split("\n  - interval: ").skip(1) {
        let series = group.split("- series: ").skip(1);
        let mut metrics = series.filter_map(|series| series.split(['{', '\n']).next());
        let is_there = metrics.any(|metric| rule.uses(metric));
        let moments = group.split("- eval_time: ").skip(1);
        for moment in moments.filter(|moment| moment.contains(&name)) {
            let is_empty = moment.contains("exp_alerts: []");
            is_absent |= !is_there;
            is_due |= is_there && !is_empty;
            is_not |= is_there && is_empty;
        }
    }
    let kinds = [
        (is_due, "it is due"),
        (is_not, "it is not due"),
        (is_absent, "its series are absent"),
    ];
    let missing = kinds.into_iter().filter(|(is_there, _)| !is_there);
    missing.map(|(_, kind)| kind).collect()
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
        let names: Vec<_> = Rule::all(&rules).map(|rule| rule.name).collect();
        assert_eq!(names, ["One"]);
    }

    #[test]
    fn each_alert_needs_a_moment_of_each_kind() {
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
        // Of the two that it uses, one is there.
        tests += &group("d", &[("One", false), ("Two", true)]);
        assert_eq!(missing(one, &tests), ["its series are absent"]);
        tests += &group("up", &[("One", false), ("Two", false)]);
        assert_eq!(missing(one, &tests), [""; 0]);
        assert_eq!(missing(two, &tests), ["it is due"]);
        assert_eq!(missing(two, "").len(), 3);
    }
}
