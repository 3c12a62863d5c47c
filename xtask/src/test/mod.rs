//! `cargo xtask test`: everything that must hold, from the formatting to real
//! shards on a real node.

mod cargo;
mod report;
mod suites;

use std::thread::{self, JoinHandle};
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, anyhow, bail};

use self::report::{Outcome, Verdict};
use self::suites::{NODE, Suite};
use crate::cluster;
use crate::demo::Scenario;
use crate::interrupt;
use crate::target::{Choice, Target};
use crate::workspace::Workspace;

/// What the suites of one run share.
struct Run<'a> {
    workspace: &'a Workspace,
    choice: Choice,
    started: SystemTime,
    /// The start of the node, which runs beside the first suites.
    node: Option<JoinHandle<Result<()>>>,
    /// The cluster, once it has the images.
    target: Option<Target>,
    /// The demo's scenario, once the operator is installed.
    scenario: Option<Scenario<'a>>,
    /// What a suite notes before it returns, if it skips all or some of its tests.
    skipped: Option<Verdict>,
}

/// Runs all suites, or those of `only` and what they need. After a failure the suites
/// that do not need the failed one still run.
///
/// # Errors
/// When a suite failed, once all have run; or at once when interrupted.
pub(crate) fn run(workspace: &Workspace, choice: Choice, only: &[String]) -> Result<()> {
    let chosen = suites::chosen(only)?;
    let own = choice.kubeconfig.is_none();
    let mut run = Run {
        workspace,
        choice,
        started: SystemTime::now(),
        node: None,
        target: None,
        scenario: None,
        skipped: None,
    };
    // On a fresh machine Go compiles the node's programs for minutes, while the first
    // suites compile Rust.
    if own && chosen.iter().any(|suite| suite.name == NODE) {
        let workspace = workspace.clone();
        let up = move || cluster::up(&workspace).map(|_| ());
        run.node = Some(thread::spawn(up));
    }
    let outcomes = run.suites(&chosen);
    // Also an interrupted command waits for what it has started.
    let _ = run.node_is_up();
    run.remove_namespace();
    let outcomes = outcomes?;
    print!("\n{}", report::summary(&outcomes));
    let failed = report::failed(&outcomes);
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    let skipped = report::skipped(&outcomes);
    workspace.progress.say(if skipped.is_empty() {
        "all suites passed".to_owned()
    } else {
        let skipped = skipped.join(", ");
        format!("no suite failed; skipped, or in part: {skipped}")
    });
    Ok(())
}

impl Run<'_> {
    fn suites(&mut self, chosen: &[&'static Suite]) -> Result<Vec<Outcome>> {
        let mut outcomes: Vec<Outcome> = Vec::new();
        for suite in chosen {
            let outcome = match report::unmet(suite.needs, &outcomes) {
                Some(need) => Outcome {
                    suite: suite.name,
                    seconds: 0,
                    verdict: Verdict::NotRun(need),
                },
                None => self.suite(suite)?,
            };
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    fn suite(&mut self, suite: &Suite) -> Result<Outcome> {
        interrupt::check()?;
        let progress = &self.workspace.progress;
        progress.say(format!("{}: {}", suite.name, suite.description));
        let started = Instant::now();
        let result = (suite.run)(self);
        let skipped = self.skipped.take();
        let verdict = match result {
            Ok(()) => skipped.unwrap_or(Verdict::Passed),
            Err(error) if interrupt::caused(&error) => return Err(error),
            Err(error) => {
                progress.say(format!("{} FAILED: {error:#}", suite.name));
                Verdict::Failed(format!("{error:#}"))
            }
        };
        Ok(Outcome {
            suite: suite.name,
            seconds: started.elapsed().as_secs(),
            verdict,
        })
    }

    /// Waits until the node is up, if it is ours.
    fn node_is_up(&mut self) -> Result<()> {
        match self.node.take() {
            None => Ok(()),
            Some(node) => node.join().map_err(|_| anyhow!("starting it panicked"))?,
        }
    }

    /// The cluster with the images, for a suite that needs it.
    fn target(&self) -> Result<&Target> {
        self.target.as_ref().context("no cluster was prepared")
    }

    /// The scenario, for a suite that needs it.
    fn scenario(&self) -> Result<&Scenario<'_>> {
        self.scenario.as_ref().context("no operator was installed")
    }

    fn remove_namespace(&self) {
        if let (Some(target), Some(scenario)) = (&self.target, &self.scenario) {
            let delete = ["delete", "namespace", scenario.namespace(), "--wait=false"];
            // If this fails, the next run deletes it.
            let _ = target.kubernetes.kubectl(&delete);
        }
    }
}
