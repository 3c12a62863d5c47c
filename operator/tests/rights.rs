//! The rights that the chart gives the operator are those for which the docs state a reason.

// A test fails by panicking.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Deserialize;

/// The verbs of each resource.
type Rights = BTreeMap<String, BTreeSet<String>>;

#[derive(Deserialize)]
struct Rule {
    #[serde(rename = "apiGroups")]
    groups: Vec<String>,
    resources: Vec<String>,
    verbs: Vec<String>,
}

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    fs::read_to_string(root.join(path)).unwrap()
}

/// The text between two others.
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = text
        .split_once(before)
        .unwrap_or_else(|| panic!("{before:?} is not there"));
    rest.split_once(after).map_or(rest, |(found, _)| found)
}

/// The rights that the chart gives the operator.
fn chart() -> Rights {
    let helpers = read("charts/gateway-queue-operator/templates/_helpers.tpl");
    let start = "{{- define \"gateway-queue-operator.rules\" -}}\n";
    let rules = between(&helpers, start, "{{- end -}}");
    // Templates contain only names of objects.
    let plain: Vec<&str> = rules.lines().filter(|line| !line.contains("{{")).collect();
    let rules: Vec<Rule> = serde_saphyr::from_str(&plain.join("\n")).unwrap();
    let mut rights = Rights::new();
    for rule in &rules {
        for resource in &rule.resources {
            // The docs name this group: there are two kinds of events.
            let resource = match rule.groups[0].as_str() {
                "events.k8s.io" => format!("events.k8s.io/{resource}"),
                _ => resource.clone(),
            };
            let verbs = rights.entry(resource).or_default();
            verbs.extend(rule.verbs.iter().cloned());
        }
    }
    rights
}

/// The rights in the table of the docs.
fn docs() -> Rights {
    let page = read("docs/gatewayqueue.md");
    let table = between(&page, "\n## The operator's permissions\n", "\n## ");
    let mut rights = Rights::new();
    let mut last = Vec::new();
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(2);
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [right, reason] = cells[..] else {
            panic!("not two cells: {row}");
        };
        assert!(reason.len() > 10, "no reason: {row}");
        let (resources, verbs) = right.split_once(": ").unwrap();
        if resources != "the same" {
            last = resources.split(", ").map(str::to_owned).collect();
        }
        for resource in &last {
            let all = rights.entry(resource.clone()).or_default();
            all.extend(verbs.split(", ").map(str::to_owned));
        }
    }
    rights
}

#[test]
fn the_docs_give_a_reason_for_each_right_of_the_chart_and_for_no_other() {
    let docs = docs();
    assert!(docs.len() > 10, "{docs:?}");
    assert_eq!(chart(), docs);
}

#[test]
fn no_right_is_about_secrets_or_everything() {
    let rights = chart();
    for (resource, verbs) in &rights {
        assert!(
            !resource.contains("secrets") && resource != "*",
            "{rights:?}"
        );
        assert!(
            !verbs.contains("*") && !verbs.contains("update"),
            "{rights:?}"
        );
    }
}
