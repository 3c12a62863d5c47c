//! `cargo xtask test`: everything that must hold, from the formatting to real
//! shards on a real node.

use std::ffi::OsString;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, anyhow, bail};

use crate::chart;
use crate::cluster;
use crate::demo::Scenario;
use crate::interrupt;
use crate::packages;
use crate::target::{Choice, Target};
use crate::workspace::Workspace;

/// Where the demo's scenario is played by the tests.
const NAMESPACE: &str = "gateway-queue-test";

/// Most tests that take long mostly wait.
const THREADS: (&str, &str) = ("RUST_TEST_THREADS", "8");

/// The tests that need a node or a browser, which a plain `cargo test` leaves out.
const BY_NAME: [&str; 7] = [
    "--workspace",
    "--test",
    "page",
    "--test",
    "chart",
    "--test",
    "cluster",
];

/// What is off by default.
const TRACES: &str = "gateway-queue/otel,gateway-queue-operator/otel";

/// Runs all tests.
///
/// # Errors
/// At the first step that fails. A cluster that cannot be had is a failure.
pub(crate) fn run(workspace: &Workspace, choice: Choice) -> Result<()> {
    let progress = &workspace.progress;
    // On a fresh machine the node's programs take minutes of Go; the compiler
    // of Rust works beside it.
    thread::scope(|scope| {
        let node = scope.spawn(|| match choice.kubeconfig {
            Some(_) => Ok(()),
            None => cluster::up(workspace)
                .map(|_| ())
                .inspect_err(|_| interrupt::request()),
        });
        let checks = checks(workspace).inspect_err(|_| interrupt::request());
        let node = node
            .join()
            .map_err(|_| anyhow!("the node's start panicked"))?;
        match (node, checks) {
            (Err(first), Err(second)) if interrupt::caused(&first) => Err(second),
            (node, checks) => node.and(checks),
        }
    })?;
    let threads = [(THREADS.0, THREADS.1.into())];
    cargo(workspace, "unit tests", &["test", "--workspace"], &threads)?;
    let traces = ["test", "--package", "gateway-queue", "--features", "otel"];
    let traces = [&traces[..], &["--test", "otel"]].concat();
    cargo(workspace, "tests of the traces", &traces, &[])?;
    in_a_browser(workspace)?;

    let foreign = choice.kubeconfig.is_some();
    let target = Target::prepare(workspace, choice)?;
    chart::check(workspace, &target.kubernetes)?;
    let tested = on_the_cluster(workspace, &target, foreign);
    let gone = [
        "delete",
        "namespace",
        NAMESPACE,
        "--ignore-not-found",
        "--wait=false",
    ];
    let gone = target.kubernetes.kubectl(&gone);
    tested?;
    gone?;
    progress.say("all tests passed");
    Ok(())
}

fn in_a_browser(workspace: &Workspace) -> Result<()> {
    let log = workspace.cache.join("browser.apt.log");
    packages::ensure(&workspace.progress, packages::BROWSER, &log)?;
    let tests = ["test", "--workspace", "--test", "page"];
    // Each has a browser of its own, of many processes.
    let threads = [(THREADS.0, "3".into())];
    cargo(workspace, "tests in a browser", &tests, &threads)
}

fn on_the_cluster(workspace: &Workspace, target: &Target, foreign: bool) -> Result<()> {
    let progress = &workspace.progress;
    progress.say("the main job: eight shards in four pods on the node");
    let summary = Scenario::prepare(workspace, target.clone(), NAMESPACE)?.run()?;
    println!("\n{}\n", summary.line());
    summary.verdict()?;

    let kubernetes = &target.kubernetes;
    let variables = [
        ("KUBECONFIG", kubernetes.kubeconfig.clone().into_os_string()),
        ("KUBECTL", kubernetes.kubectl.clone().into_os_string()),
        ("HELM", kubernetes.helm.clone().into_os_string()),
        ("E2E_NAMESPACE", NAMESPACE.into()),
        // A whole node works beside these, and they measure times.
        (THREADS.0, "4".into()),
    ];
    chart_on_the_node(workspace, target, &variables)?;
    // Of the whole workspace, since with one package alone its dependencies are
    // compiled anew, with other features.
    let mut tests = vec!["test", "--workspace", "--test", "cluster"];
    if foreign {
        progress
            .say("faults are not played on a cluster that is not ours: they need its processes");
        tests.extend(["--", "--skip", "faults", "--skip", "without_api_server"]);
    }
    cargo(workspace, "tests on the node", &tests, &variables)
}

/// By itself, since it changes the CustomResourceDefinition under the feet of all
/// others.
fn chart_on_the_node(
    workspace: &Workspace,
    target: &Target,
    variables: &[(&str, OsString)],
) -> Result<()> {
    if !target.own {
        workspace
            .progress
            .say("the chart is not upgraded and removed on a cluster that is not ours");
        return Ok(());
    }
    let variables = [variables, &chart::variables(workspace, target)?].concat();
    let tests = ["test", "--workspace", "--test", "chart"];
    cargo(workspace, "the chart on the node", &tests, &variables)
}

fn checks(workspace: &Workspace) -> Result<()> {
    cargo(workspace, "formatting", &["fmt", "--all", "--check"], &[])?;
    let clippy = [
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ];
    cargo(workspace, "lints", &clippy, &[])?;
    // A name is not looked at beside `--all-targets`.
    let by_name = [&["clippy", "--quiet"], &BY_NAME[..], &clippy[4..]].concat();
    cargo(workspace, "lints of the tests on a node", &by_name, &[])?;
    let traced = [&clippy[..4], &["--features", TRACES], &clippy[4..]].concat();
    cargo(workspace, "lints with traces", &traced, &[])?;
    let compile = ["test", "--quiet", "--workspace", "--no-run"];
    cargo(workspace, "compiling the tests", &compile, &[])?;
    let by_name = [&compile[..], &BY_NAME[1..]].concat();
    cargo(workspace, "compiling the tests on a node", &by_name, &[])
}

/// Runs cargo to its end, with its output where the person sees it.
fn cargo(
    workspace: &Workspace,
    step: &str,
    arguments: &[&str],
    variables: &[(&str, OsString)],
) -> Result<()> {
    interrupt::check()?;
    workspace
        .progress
        .say(format!("{step}: cargo {}", arguments.join(" ")));
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(arguments)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .current_dir(&workspace.root)
        .status()
        .context("starting cargo")?;
    interrupt::check()?;
    if !status.success() {
        bail!("{step}: `cargo {}` failed ({status})", arguments.join(" "));
    }
    Ok(())
}
