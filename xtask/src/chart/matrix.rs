//! The chart rendered with many values, as a dry run of the API server.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Check, REGISTRY};
use crate::kubernetes::{self, Kubernetes};
use crate::programs;
use crate::target;

/// The values, one document for each case. The first enables all objects.
const MATRIX: &str = "charts/gateway-queue-operator/tests/matrix.yaml";

const SERVED_WITHIN: Duration = Duration::from_secs(30);

/// Shows values to users, in blocks of YAML.
const DOCS: &str = "docs/monitoring.md";

pub(super) fn check(check: &Check<'_>) -> Result<()> {
    let matrix = target::read(check.workspace, MATRIX)?;
    let docs = target::read(check.workspace, DOCS)?;
    let shown = docs.split("\n```yaml\n").skip(1);
    let shown: Vec<&str> = shown
        .filter_map(|rest| Some(rest.split_once("\n```")?.0))
        .collect();
    if shown.is_empty() {
        bail!("{DOCS} has no block that starts with ```yaml");
    }
    let mut cases = matrix.split("\n---\n");
    let everything = cases.next().unwrap_or_default();

    // Most cases differ in one object.
    let mut objects = BTreeSet::new();
    let mut renderings = 0;
    for case in cases.chain(shown).chain(["{}"]) {
        for background in [REGISTRY, everything] {
            let [three, four] = &check.helms;
            let text = check.render(four, &[background, case], &[])?;
            if text != check.render(three, &[background, case], &[])? {
                bail!("helm 3 and helm 4 render different objects with these values:\n{case}");
            }
            if case.contains("watchNamespaces:") && text.contains("\nkind: ClusterRole") {
                bail!("there is a ClusterRole or ClusterRoleBinding with these values:\n{case}");
            }
            objects.extend(text.split("---\n").map(str::to_owned));
            renderings += 1;
        }
    }
    let progress = &check.workspace.progress;
    let count = objects.len();
    progress.print(format!("  {renderings} renderings, {count} objects"));
    let kinds = with_monitors(check)?;
    objects.retain(|object| kinds || !object.contains("\napiVersion: monitoring.coreos.com/"));
    let objects: Vec<String> = objects.into_iter().map(without_account).collect();
    let file = check.scratch.path().join("objects.yaml");
    fs::write(&file, objects.join("---\n")).context("writing the objects")?;
    apply(
        check.kubernetes,
        &file.display().to_string(),
        &["--dry-run=server", "--validate=strict"],
    )
}

/// Removes the ServiceAccount from a Pod: a dry run does not create it, and admission looks for it.
fn without_account(object: String) -> String {
    if !object.contains("\nkind: Pod\n") {
        return object;
    }
    let lines = object.split_inclusive('\n');
    lines
        .filter(|line| !line.starts_with("  serviceAccountName: "))
        .collect()
}

/// Returns whether the cluster has the kinds of prometheus-operator. Our own node gets them.
fn with_monitors(check: &Check<'_>) -> Result<bool> {
    let folder = programs::monitors(check.workspace)?;
    for kind in ["podmonitors", "prometheusrules", "servicemonitors"] {
        let crd = format!("crd/{kind}.monitoring.coreos.com");
        if check.own_node {
            let file = folder.join(format!("{kind}-crd.json"));
            apply(check.kubernetes, &file.display().to_string(), &[])?;
            // The API server serves a new kind a moment later.
            let plural = format!("{kind}.monitoring.coreos.com");
            kubernetes::wait_for(&plural, SERVED_WITHIN, || {
                let list = ["get", &plural, "--all-namespaces"];
                check.kubernetes.kubectl(&list).map(Some)
            })?;
        } else if check.kubernetes.kubectl(&["get", &crd]).is_err() {
            let progress = &check.workspace.progress;
            progress.print(format!("  without monitors: the cluster has no {crd}"));
            return Ok(false);
        }
    }
    Ok(true)
}

fn apply(kubernetes: &Kubernetes, file: &str, more: &[&str]) -> Result<()> {
    let apply = ["apply", "--server-side", "--force-conflicts", "--filename"];
    kubernetes
        .kubectl(&[&apply[..], &[file], more].concat())
        .map(|_| ())
}
