//! `cargo xtask chart`: what can be said about the chart without installing it.

mod alerts;
mod dashboard;
mod matrix;
mod schemas;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::debian;
use crate::files;
use crate::interrupt;
use crate::kubernetes::Kubernetes;
use crate::process;
use crate::programs::{self, Programs};
use crate::target::{self, Target};
use crate::workspace::Workspace;

const CHART: &str = "charts/gateway-queue-operator";
const CRD: &str = "crds/gatewayqueue.dev_gatewayqueues.yaml";
/// Made of the values, by helm-docs.
const README: &str = "README.md";

/// The Kubernetes for which the chart is rendered without a cluster: the node's.
const KUBE_VERSION: &str = "1.35.4";

/// Everything that looks at the chart.
struct Check<'a> {
    workspace: &'a Workspace,
    chart: PathBuf,
    helms: [PathBuf; 2],
    tools: Programs,
    promtool: PathBuf,
    kubernetes: &'a Kubernetes,
    /// For files that last as long as the check.
    scratch: tempfile::TempDir,
}

/// Lint, unit tests, rendering, alerts, and whether what is generated is as it
/// is generated. The schemas are made from this cluster's API server.
///
/// # Errors
/// When anything is wrong, with all that is; or when a tool cannot be had.
pub(crate) fn check(workspace: &Workspace, kubernetes: &Kubernetes) -> Result<()> {
    let tools = programs::tools(workspace)?;
    let check = Check {
        workspace,
        chart: workspace.root.join(CHART),
        helms: [tools.path("helm3"), programs::ensure(workspace)?.helm()],
        promtool: debian::prometheus(workspace)?.promtool,
        tools,
        kubernetes,
        scratch: tempfile::tempdir().context("creating a folder")?,
    };
    type Step = fn(&Check<'_>) -> Result<()>;
    let steps: [(&str, Step); 7] = [
        ("is the CRD rendered as it is in crds/", crd_is_rendered),
        ("is its README as helm-docs writes it", readme_is_fresh),
        ("helm lint, with helm 3 and helm 4", lint),
        ("helm-unittest", unit_tests),
        (
            "promtool: each alert, when it is due and when not",
            alerts::check,
        ),
        (
            "promtool: each expression of the dashboard",
            dashboard::check,
        ),
        (
            "a matrix of values, against the API server's own schemas",
            matrix::check,
        ),
    ];
    let mut wrong = Vec::new();
    for (what, step) in steps {
        interrupt::check()?;
        workspace.progress.say(format!("the chart: {what}"));
        if let Err(error) = step(&check) {
            if interrupt::caused(&error) {
                return Err(error);
            }
            wrong.push(format!("the chart: {what}: {error:#}"));
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

/// What the tests in e2e/tests/chart are told.
///
/// # Errors
/// When a tool cannot be had.
pub(crate) fn variables(
    workspace: &Workspace,
    target: &Target,
) -> Result<[(&'static str, OsString); 7]> {
    let tag = |name| -> Result<OsString> { Ok(target.image(name)?.tag.clone().into()) };
    let prometheus = debian::prometheus(workspace)?;
    Ok([
        ("PROMTOOL", prometheus.promtool.into()),
        ("PROMETHEUS", prometheus.prometheus.into()),
        ("HELM3", programs::tools(workspace)?.path("helm3").into()),
        ("HELM4", target.kubernetes.helm.clone().into()),
        ("OPERATOR_TAG", tag("gateway-queue-operator")?),
        ("QUEUE_TAG", tag("gateway-queue")?),
        ("MONITORS", programs::monitors(workspace)?.into()),
    ])
}

/// Writes the chart's README.
///
/// # Errors
/// When helm-docs cannot be had or finds a value without a description.
pub(crate) fn write_readme(workspace: &Workspace) -> Result<()> {
    let tools = programs::tools(workspace)?;
    let chart = workspace.root.join(CHART);
    let readme = generated_readme(&tools, &chart)?;
    files::replace(&chart.join(README), readme.as_bytes(), 0o644)?;
    workspace.progress.say(format!("wrote {CHART}/{README}"));
    Ok(())
}

fn generated_readme(tools: &Programs, chart: &Path) -> Result<String> {
    let mut docs = Command::new(tools.path("helm-docs"));
    docs.args(["--dry-run", "--log-level", "error"])
        .args(["--sort-values-order", "file", "--skip-version-footer"])
        .arg("--chart-search-root")
        .arg(chart);
    let text = process::output(&mut docs)?;
    if let Some(row) = text.lines().find(|line| line.ends_with("|  |")) {
        bail!("a value without a description, or one with a second `--` in it: {row}");
    }
    let lines: Vec<&str> = text.trim().lines().map(str::trim_end).collect();
    Ok(lines.join("\n") + "\n")
}

fn readme_is_fresh(check: &Check<'_>) -> Result<()> {
    let there = fs::read_to_string(check.chart.join(README)).context("reading the README")?;
    if there != generated_readme(&check.tools, &check.chart)? {
        bail!("{CHART}/{README} is not what its values say; run `cargo xtask chart --write`");
    }
    Ok(())
}

/// A test of the operator compares crds/ with the type. What is rendered has
/// labels and an annotation besides.
fn crd_is_rendered(check: &Check<'_>) -> Result<()> {
    let written = target::read(check.workspace, CRD)?;
    for helm in &check.helms {
        let rendered = check.render(helm, &["--show-only=templates/crd.yaml"])?;
        let spec = |text: &str| Some(text.split_once("\nspec:\n")?.1.trim().to_owned());
        if spec(&rendered).is_none() || spec(&rendered) != spec(&written) {
            bail!(
                "the CRD that the chart renders has another spec than {CRD}; run `cargo xtask crd`"
            );
        }
    }
    Ok(())
}

fn lint(check: &Check<'_>) -> Result<()> {
    for helm in &check.helms {
        let mut lint = Command::new(helm);
        lint.args(["lint", "--strict", "--kube-version", KUBE_VERSION])
            .arg(&check.chart);
        process::output(&mut lint)?;
    }
    Ok(())
}

fn unit_tests(check: &Check<'_>) -> Result<()> {
    let mut tests = Command::new(check.tools.path("helm-unittest"));
    // A helm plugin is told by its helm where that one keeps its things.
    tests
        .args(["--strict", "--file", "tests/*_test.yaml"])
        .arg(&check.chart)
        .current_dir(check.scratch.path());
    let said = process::output(&mut tests).map_err(|error| {
        // What failed is on its standard output.
        let shown = tests.output().map(|out| out.stdout).unwrap_or_default();
        error.context(String::from_utf8_lossy(&shown).into_owned())
    })?;
    let count = said.lines().find(|line| line.starts_with("Tests:"));
    let count = count.context("helm-unittest told no count of tests")?;
    check.workspace.progress.say(format!("  {}", count.trim()));
    Ok(())
}

impl Check<'_> {
    /// The chart, rendered.
    fn render(&self, helm: &Path, arguments: &[&str]) -> Result<String> {
        let mut template = Command::new(helm);
        template
            .args(["template", "release"])
            .arg(&self.chart)
            .args(["--kube-version", KUBE_VERSION])
            .args(arguments);
        process::output(&mut template)
    }
}
