//! `cargo xtask chart`: checks the chart without installing it.

mod alerts;
mod matrix;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use testnode::host::{Workspace, files, interrupt, process};
use testnode::programs::{NODE, Programs};

use crate::debian;
use crate::kubernetes::Kubernetes;
use crate::programs::{self, TOOLS};
use crate::target::{self, Target};

const CHART: &str = "charts/gateway-queue-operator";
const CRD: &str = "crds/gatewayqueue.dev_gatewayqueues.yaml";
/// Generated from the values by helm-docs.
const README: &str = "README.md";

/// The version of Kubernetes for which the chart is rendered: that of the test node.
const KUBE_VERSION: &str = "1.35.4";

/// The values that the chart requires.
const REGISTRY: &str = "global: {imageRegistry: registry.example.com}";

/// What the checks need.
struct Check<'a> {
    workspace: &'a Workspace,
    chart: PathBuf,
    /// helm 3 and helm 4.
    helms: [PathBuf; 2],
    tools: Programs,
    promtool: PathBuf,
    kubernetes: &'a Kubernetes,
    own_node: bool,
    /// Files that last as long as the check.
    scratch: tempfile::TempDir,
}

/// Checks the chart. The API server judges what it renders, as a dry run; the test node
/// (`own_node`) also gets the definitions of prometheus-operator.
///
/// # Errors
/// If a check fails, with the errors of all checks, or if a tool is missing.
pub(crate) fn check(workspace: &Workspace, kubernetes: &Kubernetes, own_node: bool) -> Result<()> {
    let tools = TOOLS.build(workspace)?;
    let [promtool, _] = debian::prometheus(workspace)?;
    let check = Check {
        workspace,
        chart: workspace.root.join(CHART),
        helms: [tools.path("helm3"), NODE.build(workspace)?.path("helm")],
        promtool,
        tools,
        kubernetes,
        own_node,
        scratch: tempfile::tempdir().context("creating a folder")?,
    };
    type Step = fn(&Check<'_>) -> Result<()>;
    let steps: [(&str, Step); 6] = [
        ("the rendered CRD equals the one in crds/", crd_is_rendered),
        ("the README is up to date", readme_is_fresh),
        ("helm lint", lint),
        ("helm-unittest", unit_tests),
        ("promtool: the alerts", alerts::check),
        ("many values, as a dry run", matrix::check),
    ];
    let mut errors = Vec::new();
    for (name, step) in steps {
        interrupt::check()?;
        workspace.progress.print(format!("the chart: {name}"));
        if let Err(error) = step(&check) {
            if interrupt::caused(&error) {
                return Err(error);
            }
            errors.push(format!("the chart: {name}: {error:#}"));
        }
    }
    if !errors.is_empty() {
        bail!("{}", errors.join("\n"));
    }
    Ok(())
}

/// Returns the environment variables of the tests in e2e/tests/chart.
pub(crate) fn variables(
    workspace: &Workspace,
    target: &Target,
) -> Result<[(&'static str, OsString); 7]> {
    let tag = |name| -> Result<OsString> { Ok(target.image(name)?.tag.clone().into()) };
    let [promtool, prometheus] = debian::prometheus(workspace)?;
    Ok([
        ("PROMTOOL", promtool.into()),
        ("PROMETHEUS", prometheus.into()),
        ("HELM3", TOOLS.build(workspace)?.path("helm3").into()),
        ("HELM4", target.kubernetes.helm.clone().into()),
        ("OPERATOR_TAG", tag("gateway-queue-operator")?),
        ("QUEUE_TAG", tag("gateway-queue")?),
        ("MONITORS", programs::monitors(workspace)?.into()),
    ])
}

/// Writes the chart's README.
pub(crate) fn write_readme(workspace: &Workspace) -> Result<()> {
    let tools = TOOLS.build(workspace)?;
    let chart = workspace.root.join(CHART);
    let readme = generated_readme(&tools, &chart)?;
    files::replace(&chart.join(README), readme.as_bytes(), 0o644)?;
    workspace.progress.print(format!("wrote {CHART}/{README}"));
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
        bail!("a value has no description, or its description contains `--`: {row}");
    }
    let lines: Vec<&str> = text.trim().lines().map(str::trim_end).collect();
    Ok(lines.join("\n") + "\n")
}

fn readme_is_fresh(check: &Check<'_>) -> Result<()> {
    let written = fs::read_to_string(check.chart.join(README)).context("reading the README")?;
    if written != generated_readme(&check.tools, &check.chart)? {
        bail!("{CHART}/{README} is out of date; run `cargo xtask chart --write`");
    }
    Ok(())
}

/// Compares the specs; the rendered CRD also has labels and an annotation. A test of the operator
/// compares crds/ with the type.
fn crd_is_rendered(check: &Check<'_>) -> Result<()> {
    let written = target::read(check.workspace, CRD)?;
    for helm in &check.helms {
        let rendered = check.render(helm, &[REGISTRY], &["--show-only=templates/crd.yaml"])?;
        let spec = |text: &str| Some(text.split_once("\nspec:\n")?.1.trim().to_owned());
        if spec(&rendered).is_none() || spec(&rendered) != spec(&written) {
            bail!("the chart renders another CRD than {CRD}; run `cargo xtask crd`");
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
    tests
        .args(["--strict", "--file", "tests/*_test.yaml"])
        .arg(&check.chart)
        .current_dir(check.scratch.path());
    let report = process::output(&mut tests).map_err(|error| {
        // It prints the failed tests to its standard output.
        let shown = tests.output().map(|out| out.stdout).unwrap_or_default();
        error.context(String::from_utf8_lossy(&shown).into_owned())
    })?;
    let count = report.lines().find(|line| line.starts_with("Tests:"));
    let count = count.context("the report of helm-unittest has no line `Tests:`")?;
    let progress = &check.workspace.progress;
    progress.print(format!("  {}", count.trim()));
    Ok(())
}

impl Check<'_> {
    /// Renders the chart with these documents of values, a later one on top of an earlier one.
    fn render(&self, helm: &Path, values: &[&str], arguments: &[&str]) -> Result<String> {
        let mut template = Command::new(helm);
        template
            .args(["template", "release", "--namespace=default"])
            .arg(&self.chart)
            .args(["--kube-version", KUBE_VERSION])
            .args(arguments);
        for (number, values) in values.iter().enumerate() {
            let file = self.scratch.path().join(format!("values-{number}.yaml"));
            fs::write(&file, values).context("writing values")?;
            template.arg("--values").arg(&file);
        }
        process::output(&mut template)
    }
}
