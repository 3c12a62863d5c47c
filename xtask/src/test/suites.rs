//! The suites: what each tests, what it needs, and how it runs.

use std::ffi::OsString;
use std::fs;

use anyhow::Result;
use testnode::NetworkSettings;
use testnode::host::packages::{self, Package};
use testnode::node;

use super::report::Verdict;
use super::{Run, cargo};
use crate::chart;
use crate::clients;
use crate::debian;
use crate::demo::Scenario;
use crate::target::Target;

/// The beginning of the name of the namespace in which the demo's scenario runs.
const NAMESPACE: &str = "gateway-queue-test";

/// What the tests of the queue's page need.
const BROWSER: &[Package] = &[
    ("chromium", "chromium"),
    ("chromium-driver", "chromedriver"),
];

/// The tests that need a node, a browser or other languages, which a plain `cargo test` leaves out.
const BY_NAME: [&str; 8] = [
    "--test", "page", "--test", "chart", "--test", "clients", "--test", "cluster",
];

/// A group of tests.
#[derive(Debug)]
pub(super) struct Suite {
    /// The name in `--only` and in the summary.
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    /// Earlier suites that must have passed.
    pub(super) needs: &'static [&'static str],
    pub(super) load: Load,
    pub(super) run: fn(&Run<'_>) -> Result<Verdict>,
}

/// How a suite affects suites beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// It keeps the processors busy.
    Busy,
    /// It mostly waits, and does not mind a busy machine.
    Waits,
    /// It mostly waits, and measures times.
    Measures,
}

/// The suites that run on the machine, in this order.
static MACHINE: [Suite; 7] = [
    Suite {
        name: "formatting",
        description: "cargo fmt",
        needs: &[],
        load: Load::Busy,
        run: |run| cargo(run, "formatting", &["fmt", "--all", "--check"]),
    },
    Suite {
        name: "lints",
        description: "clippy",
        needs: &[],
        load: Load::Busy,
        run: lint_all,
    },
    Suite {
        name: "lints-by-name",
        description: "clippy, for the tests that need a node, a browser or other languages",
        needs: &[],
        load: Load::Busy,
        run: |run| lint(run, "lints-by-name", &BY_NAME),
    },
    Suite {
        name: "compile",
        description: "compiling all tests",
        needs: &[],
        load: Load::Busy,
        run: compile,
    },
    Suite {
        name: "page",
        description: "the queue's status page in a browser",
        needs: &["compile"],
        load: Load::Busy,
        run: page,
    },
    Suite {
        name: "unit",
        description: "tests that need neither a cluster nor a browser",
        needs: &["compile"],
        load: Load::Measures,
        run: |run| tests(run, "unit", &["--workspace"], &[threads(8)]),
    },
    Suite {
        name: "clients",
        description: "the examples of clients, with the libraries of four languages",
        needs: &["compile"],
        load: Load::Measures,
        run: client_libraries,
    },
];

/// The suites that use the cluster, in this order: `chart-on-node` replaces the
/// CustomResourceDefinition, so only one of them runs at a time.
static CLUSTER: [Suite; 7] = [
    Suite {
        name: "node",
        description: "a real Kubernetes node",
        needs: &[],
        load: Load::Busy,
        run: start_node,
    },
    Suite {
        name: "images",
        description: "the images, in the cluster",
        needs: &["node"],
        load: Load::Busy,
        run: images,
    },
    Suite {
        name: "chart",
        description: "the chart, without installing it",
        needs: &["images"],
        load: Load::Busy,
        run: |run| {
            let target = run.target()?;
            chart::check(run.workspace, &target.kubernetes, target.own)?;
            Ok(Verdict::Passed)
        },
    },
    Suite {
        name: "operator",
        description: "the operator, installed by helm, and a fake Discord",
        needs: &["images"],
        load: Load::Waits,
        run: operator,
    },
    Suite {
        name: "demo",
        description: "the scenario of the demo: eight shards in four pods",
        needs: &["operator"],
        load: Load::Waits,
        run: demo,
    },
    Suite {
        name: "chart-on-node",
        description: "the chart, installed, upgraded and removed by helm 3 and helm 4",
        needs: &["compile", "operator"],
        load: Load::Waits,
        run: chart_on_node,
    },
    Suite {
        name: "cluster",
        description: "the operator and queues on a real cluster",
        needs: &["compile", "operator"],
        load: Load::Measures,
        run: cluster,
    },
];

fn all() -> impl DoubleEndedIterator<Item = &'static Suite> {
    MACHINE.iter().chain(&CLUSTER)
}

/// The names of all suites.
pub(crate) fn names() -> Vec<&'static str> {
    all().map(|suite| suite.name).collect()
}

/// The list of all suites for `--help`.
pub(crate) fn help() -> String {
    let lines = all().map(|suite| format!("  {:<13}  {}", suite.name, suite.description));
    format!("Suites:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

/// Returns the suites with these names and the suites they need; without names, all. Those of the
/// machine come first, then those of the cluster.
pub(super) fn chosen(only: &[String]) -> [Vec<&'static Suite>; 2] {
    let mut wanted: Vec<&str> = only.iter().map(String::as_str).collect();
    // A suite is listed after those that it needs.
    for suite in all().rev() {
        if only.is_empty() || wanted.contains(&suite.name) {
            wanted.push(suite.name);
            wanted.extend(suite.needs);
        }
    }
    let is_wanted = |suite: &&Suite| wanted.contains(&suite.name);
    [&MACHINE[..], &CLUSTER].map(|suites| suites.iter().filter(is_wanted).collect())
}

/// The number of tests that run at the same time.
fn threads(count: u8) -> (&'static str, OsString) {
    ("RUST_TEST_THREADS", count.to_string().into())
}

fn cargo(run: &Run<'_>, suite: &str, arguments: &[&str]) -> Result<Verdict> {
    cargo::run(run.workspace, suite, arguments, &[])?;
    Ok(Verdict::Passed)
}

fn lint(run: &Run<'_>, suite: &str, targets: &[&str]) -> Result<Verdict> {
    let clippy = ["clippy", "--quiet", "--workspace"];
    let deny = ["--", "--deny", "warnings"];
    cargo(run, suite, &[&clippy[..], targets, &deny].concat())
}

/// Checks all crates, and the client also without TLS.
fn lint_all(run: &Run<'_>) -> Result<Verdict> {
    lint(run, "lints", &["--all-targets"])?;
    let clippy = ["clippy", "--quiet", "--all-targets"];
    let client = ["--package", "gateway-queue-client", "--no-default-features"];
    let deny = ["--", "--deny", "warnings"];
    cargo(run, "lints", &[&clippy[..], &client, &deny].concat())
}

/// Runs `cargo test`. All suites select tests of the whole workspace: for one package alone,
/// its dependencies would be compiled again, with other features.
fn tests(
    run: &Run<'_>,
    suite: &str,
    which: &[&str],
    variables: &[(&str, OsString)],
) -> Result<Verdict> {
    let arguments = [&["test", "--no-fail-fast"][..], which].concat();
    cargo::run(run.workspace, suite, &arguments, variables)?;
    Ok(Verdict::Passed)
}

fn compile(run: &Run<'_>) -> Result<Verdict> {
    let compile = ["test", "--quiet", "--workspace", "--no-run"];
    cargo(run, "compile", &compile)?;
    cargo(run, "compile", &[&compile[..], &BY_NAME].concat())
}

fn page(run: &Run<'_>) -> Result<Verdict> {
    let log = run.workspace.cache.join("browser.apt.log");
    packages::ensure(&run.workspace.progress, BROWSER, &log)?;
    // Each test has a browser of its own, of many processes.
    let page = ["--workspace", "--test", "page"];
    tests(run, "page", &page, &[threads(3)])
}

fn client_libraries(run: &Run<'_>) -> Result<Verdict> {
    if !rustix::process::geteuid().is_root() {
        return Ok(Verdict::Skipped("only root can create network namespaces"));
    }
    let folder = clients::install(run.workspace)?;
    let [nginx, nginx_stream] = debian::nginx(run.workspace)?;
    let rows = run.workspace.target.join("test-logs/clients.rows");
    let _ = fs::remove_file(&rows);
    let variables = [
        threads(6),
        ("CLIENTS", folder.into()),
        ("CLIENTS_ROWS", rows.clone().into()),
        ("NGINX_PROGRAM", nginx.into()),
        ("NGINX_STREAM", nginx_stream.into()),
    ];
    let verdict = tests(
        run,
        "clients",
        &["--workspace", "--test", "clients"],
        &variables,
    );
    let rows = fs::read_to_string(&rows).unwrap_or_default();
    println!("\n{}", clients::table(&rows));
    verdict
}

fn start_node(run: &Run<'_>) -> Result<Verdict> {
    if run.choice.kubeconfig.is_some() {
        return Ok(Verdict::Skipped("--kubeconfig names a cluster"));
    }
    node::up(run.workspace, &NetworkSettings::IPV4)?;
    Ok(Verdict::Passed)
}

fn images(run: &Run<'_>) -> Result<Verdict> {
    let target = Target::prepare_running(run.workspace, run.choice.clone())?;
    run.target.get_or_init(|| target);
    Ok(Verdict::Passed)
}

/// Prepares the scenario of the demo. The suites after this one use its fake Discord, too.
fn operator(run: &Run<'_>) -> Result<Verdict> {
    let target = run.target()?.clone();
    let scenario = Scenario::prepare(run.workspace, target, NAMESPACE)?;
    run.scenario.get_or_init(|| scenario);
    Ok(Verdict::Passed)
}

fn demo(run: &Run<'_>) -> Result<Verdict> {
    let summary = run.scenario()?.run()?;
    println!("\n{}\n", summary.line());
    summary.verdict()?;
    Ok(Verdict::Passed)
}

fn chart_on_node(run: &Run<'_>) -> Result<Verdict> {
    let target = run.target()?;
    if !target.own {
        return Ok(Verdict::Skipped(
            "it would upgrade and remove the CustomResourceDefinition of a cluster that is not ours",
        ));
    }
    let of_chart = chart::variables(run.workspace, target)?;
    let of_node = target.variables(run.scenario()?.namespace(), run.started);
    // A test that changes the CustomResourceDefinition waits for all others.
    let all_at_once = [threads(8)];
    let variables = [&of_node[..], &of_chart, &all_at_once].concat();
    let chart = ["--workspace", "--test", "chart"];
    tests(run, "chart-on-node", &chart, &variables)
}

fn cluster(run: &Run<'_>) -> Result<Verdict> {
    let target = run.target()?;
    let mut which = vec!["--workspace", "--test", "cluster"];
    if run.choice.kubeconfig.is_some() {
        which.extend(["--", "--skip", "faults"]);
    }
    // `e2e/tests/cluster/schedule.rs` decides how many tests run at once.
    let of_node = target.variables(run.scenario()?.namespace(), run.started);
    let variables = [&of_node[..], &[threads(64)]].concat();
    tests(run, "cluster", &which, &variables)?;
    Ok(if run.choice.kubeconfig.is_some() {
        Verdict::PassedInPart("faults, which need the processes of the test node")
    } else {
        Verdict::Passed
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(only: &[&str]) -> Vec<&'static str> {
        let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
        chosen(&only)
            .concat()
            .iter()
            .map(|suite| suite.name)
            .collect()
    }

    #[test]
    fn a_suite_is_listed_after_those_that_it_needs() {
        for (number, suite) in all().enumerate() {
            for need in suite.needs {
                assert!(
                    names(&[])[..number].contains(need),
                    "{}: {need}",
                    suite.name
                );
            }
        }
    }

    #[test]
    fn only_the_chosen_suites_and_those_they_need_run() {
        assert_eq!(names(&["lints"]), ["lints"]);
        assert_eq!(
            names(&["unit", "formatting"]),
            ["formatting", "compile", "unit"]
        );
        assert_eq!(
            names(&["cluster"]),
            ["compile", "node", "images", "operator", "cluster"]
        );
        assert_eq!(names(&[]), super::names());
    }
}
