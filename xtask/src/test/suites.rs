//! The suites: what each shows, what it needs, and how it is run.

use std::ffi::OsString;
use std::time::UNIX_EPOCH;

use anyhow::{Result, bail};

use super::report::Verdict;
use super::{Run, cargo};
use crate::chart;
use crate::demo::Scenario;
use crate::packages;
use crate::target::Target;

/// How the namespace of the demo's scenario begins in the tests.
pub(super) const NAMESPACE: &str = "gateway-queue-test";

/// The suite that starts beside the first ones.
pub(super) const NODE: &str = "node";

/// How many tests run at the same time.
const THREADS: &str = "RUST_TEST_THREADS";

/// The tests that need a node or a browser, which a plain `cargo test` leaves out.
const BY_NAME: [&str; 6] = ["--test", "page", "--test", "chart", "--test", "cluster"];

const LINT: [&str; 3] = ["clippy", "--quiet", "--workspace"];
const DENY: [&str; 3] = ["--", "--deny", "warnings"];

/// One part of the tests.
pub(super) struct Suite {
    /// As `--only` and the summary call it.
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    /// Suites before it that must have passed.
    pub(super) needs: &'static [&'static str],
    pub(super) run: fn(&mut Run<'_>) -> Result<()>,
}

/// All suites, in the order in which they run. No other runs beside `chart-on-node`,
/// which replaces the CustomResourceDefinition.
pub(super) static SUITES: [Suite; 13] = [
    Suite {
        name: "formatting",
        description: "cargo fmt",
        needs: &[],
        run: |run| {
            cargo::run(
                run.workspace,
                "formatting",
                &["fmt", "--all", "--check"],
                &[],
            )
        },
    },
    Suite {
        name: "lints",
        description: "clippy",
        needs: &[],
        run: |run| lint(run, "lints", &["--all-targets"]),
    },
    Suite {
        name: "lints-by-name",
        description: "clippy, of the tests that `--all-targets` leaves out",
        needs: &[],
        run: |run| lint(run, "lints-by-name", &BY_NAME),
    },
    Suite {
        name: "compile",
        description: "compiling the tests",
        needs: &[],
        run: compile,
    },
    Suite {
        name: NODE,
        description: "a real Kubernetes node",
        needs: &[],
        run: node,
    },
    Suite {
        name: "unit",
        description: "what needs neither a cluster nor a browser",
        needs: &["compile"],
        run: |run| tests(run, "unit", &["--workspace"], &[threads(8)]),
    },
    Suite {
        name: "page",
        description: "the queue's page in a browser",
        needs: &["compile"],
        run: page,
    },
    Suite {
        name: "images",
        description: "the images, on the cluster",
        needs: &[NODE],
        run: images,
    },
    Suite {
        name: "chart",
        description: "the chart, without installing it",
        needs: &["images"],
        run: |run| {
            let target = run.target()?;
            chart::check(run.workspace, &target.kubernetes, target.own)
        },
    },
    Suite {
        name: "operator",
        description: "the operator, installed by helm, and a fake Discord",
        needs: &["images"],
        run: operator,
    },
    Suite {
        name: "demo",
        description: "the main job: eight shards in four pods on the node",
        needs: &["operator"],
        run: main_job,
    },
    Suite {
        name: "chart-on-node",
        description: "the chart, installed, upgraded and removed by helm 3 and helm 4",
        needs: &["compile", "operator"],
        run: chart_on_the_node,
    },
    Suite {
        name: "cluster",
        description: "what a user of a real cluster sees",
        needs: &["compile", "operator"],
        run: on_the_cluster,
    },
];

/// The suites with these names and those that they need; all, if there are no names.
///
/// # Errors
/// When there is no such suite.
pub(super) fn chosen(only: &[String]) -> Result<Vec<&'static Suite>> {
    let is_suite = |name: &&String| SUITES.iter().any(|suite| suite.name == **name);
    if let Some(unknown) = only.iter().find(|name| !is_suite(name)) {
        let names: Vec<_> = SUITES.iter().map(|suite| suite.name).collect();
        bail!("--only {unknown}: not one of {}", names.join(", "));
    }
    let mut wanted: Vec<&str> = only.iter().map(String::as_str).collect();
    let mut chosen = Vec::new();
    // A suite comes after those that it needs.
    for suite in SUITES.iter().rev() {
        if only.is_empty() || wanted.contains(&suite.name) {
            wanted.extend(suite.needs);
            chosen.push(suite);
        }
    }
    chosen.reverse();
    Ok(chosen)
}

/// Most tests that take long mostly wait.
fn threads(count: u8) -> (&'static str, OsString) {
    (THREADS, count.to_string().into())
}

fn lint(run: &Run<'_>, suite: &str, targets: &[&str]) -> Result<()> {
    cargo::run(
        run.workspace,
        suite,
        &[&LINT[..], targets, &DENY[..]].concat(),
        &[],
    )
}

/// `cargo test`. All suites test the whole workspace: for one package alone its
/// dependencies are compiled again, with other features.
fn tests(run: &Run<'_>, suite: &str, which: &[&str], variables: &[(&str, OsString)]) -> Result<()> {
    let arguments = [&["test", "--no-fail-fast"][..], which].concat();
    cargo::run(run.workspace, suite, &arguments, variables)
}

fn compile(run: &mut Run<'_>) -> Result<()> {
    let compile = ["test", "--quiet", "--workspace", "--no-run"];
    cargo::run(run.workspace, "compile", &compile, &[])?;
    let by_name = [&compile[..], &BY_NAME].concat();
    cargo::run(run.workspace, "compile", &by_name, &[])
}

fn node(run: &mut Run<'_>) -> Result<()> {
    if run.choice.kubeconfig.is_some() {
        run.skipped = Some(Verdict::Skipped("--kubeconfig names a cluster"));
    }
    run.node_is_up()
}

fn page(run: &mut Run<'_>) -> Result<()> {
    let log = run.workspace.cache.join("browser.apt.log");
    packages::ensure(&run.workspace.progress, packages::BROWSER, &log)?;
    // Each has a browser of its own, of many processes.
    tests(
        run,
        "page",
        &["--workspace", "--test", "page"],
        &[threads(3)],
    )
}

fn images(run: &mut Run<'_>) -> Result<()> {
    let target = Target::prepare(run.workspace, run.choice.clone())?;
    run.target = Some(target);
    Ok(())
}

/// The suites after this one use its fake Discord, too.
fn operator(run: &mut Run<'_>) -> Result<()> {
    let target = run.target()?.clone();
    run.scenario = Some(Scenario::prepare(run.workspace, target, NAMESPACE)?);
    Ok(())
}

fn main_job(run: &mut Run<'_>) -> Result<()> {
    let summary = run.scenario()?.run()?;
    println!("\n{}\n", summary.line());
    summary.verdict()
}

fn chart_on_the_node(run: &mut Run<'_>) -> Result<()> {
    let target = run.target()?;
    if !target.own {
        run.skipped = Some(Verdict::Skipped(
            "it would upgrade and remove the CustomResourceDefinition of a cluster that is not ours",
        ));
        return Ok(());
    }
    let of_the_chart = chart::variables(run.workspace, target)?;
    // A test that changes the CustomResourceDefinition waits for all others.
    let all_at_once = [threads(8)];
    let variables = [&variables(run, target)?[..], &of_the_chart, &all_at_once].concat();
    tests(
        run,
        "chart-on-node",
        &["--workspace", "--test", "chart"],
        &variables,
    )
}

fn on_the_cluster(run: &mut Run<'_>) -> Result<()> {
    let target = run.target()?;
    let mut which = vec!["--workspace", "--test", "cluster"];
    if run.choice.kubeconfig.is_some() {
        which.extend(["--", "--skip", "faults"]);
    }
    // `e2e/tests/cluster/schedule.rs` decides how many tests run at once.
    let variables = [&variables(run, target)?[..], &[threads(64)]].concat();
    tests(run, "cluster", &which, &variables)?;
    if run.choice.kubeconfig.is_some() {
        run.skipped = Some(Verdict::PassedInPart(
            "faults, which need the processes of our own node",
        ));
    }
    Ok(())
}

/// The environment of the tests on the node.
fn variables(run: &Run<'_>, target: &Target) -> Result<[(&'static str, OsString); 6]> {
    let kubernetes = &target.kubernetes;
    let started = run.started.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok([
        ("KUBECONFIG", kubernetes.kubeconfig.clone().into()),
        ("KUBECTL", kubernetes.kubectl.clone().into()),
        ("HELM", kubernetes.helm.clone().into()),
        ("E2E_NAMESPACE", run.scenario()?.namespace().into()),
        ("E2E_STARTED", started.as_secs().to_string().into()),
        // A whole node works beside these, and they measure times.
        threads(4),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(only: &[&str]) -> Vec<&'static str> {
        let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
        let chosen = chosen(&only).unwrap();
        chosen.into_iter().map(|suite| suite.name).collect()
    }

    #[test]
    fn what_a_suite_needs_runs_before_it() {
        for (number, suite) in SUITES.iter().enumerate() {
            for need in suite.needs {
                let mut before = SUITES[..number].iter();
                assert!(before.any(|s| s.name == *need), "{}: {need}", suite.name);
            }
        }
    }

    #[test]
    fn only_a_suite_and_all_that_it_needs_run() {
        assert_eq!(names(&["lints"]), ["lints"]);
        assert_eq!(
            names(&["unit", "formatting"]),
            ["formatting", "compile", "unit"]
        );
        assert_eq!(
            names(&["cluster"]),
            ["compile", NODE, "images", "operator", "cluster"]
        );
        assert_eq!(names(&[]).len(), SUITES.len());
        let unknown = chosen(&["nothing".to_owned()]).map(|_| ()).unwrap_err();
        assert!(
            unknown.to_string().contains("formatting, lints"),
            "{unknown}"
        );
    }
}
