//! `cargo xtask test`: all tests, from the formatting to real shards on a real node.

mod cargo;
mod report;
mod schedule;
pub(crate) mod suites;

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, bail};
use testnode::host::{Workspace, interrupt};

use self::report::{Outcome, Verdict};
use self::schedule::Schedule;
use self::suites::Suite;
use crate::demo::Scenario;
use crate::target::{Choice, Target};

/// What the suites of one run share.
struct Run<'a> {
    workspace: &'a Workspace,
    choice: Choice,
    started: SystemTime,
    /// The cluster, once it has the images.
    target: OnceLock<Target>,
    /// The demo's scenario, once the operator is installed.
    scenario: OnceLock<Scenario<'a>>,
}

/// Runs all suites, or those of `only` and the suites they need. After a failure, the suites
/// that do not need the failed one still run.
///
/// # Errors
/// If a suite failed, after all have run; or at once if interrupted.
pub(crate) fn run(workspace: &Workspace, choice: Choice, only: &[String]) -> Result<()> {
    let run = Run {
        workspace,
        choice,
        started: SystemTime::now(),
        target: OnceLock::new(),
        scenario: OnceLock::new(),
    };
    let interrupted = Mutex::new(None);
    let schedule = Schedule::new(suites::chosen(only));
    let outcomes = schedule.run(|suite| {
        run.suite(suite)
            .map_err(|error| {
                let mut first = interrupted.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert(error);
            })
            .ok()
    });
    run.remove_namespace();
    let interrupted = interrupted.into_inner();
    if let Some(error) = interrupted.unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    print!("\n{}", report::summary(&outcomes));
    let failed = report::failed(&outcomes);
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    let skipped = report::skipped(&outcomes);
    workspace.progress.print(if skipped.is_empty() {
        "all suites passed".to_owned()
    } else {
        format!(
            "no suite failed; skipped, at least in part: {}",
            skipped.join(", ")
        )
    });
    Ok(())
}

impl Run<'_> {
    fn suite(&self, suite: &Suite) -> Result<Outcome> {
        interrupt::check()?;
        let progress = &self.workspace.progress;
        progress.print(format!("{}: {}", suite.name, suite.description));
        let started = Instant::now();
        let verdict = match (suite.run)(self) {
            Ok(verdict) => verdict,
            Err(error) if interrupt::caused(&error) => return Err(error),
            Err(error) => {
                progress.print(format!("{} FAILED: {error:#}", suite.name));
                Verdict::Failed(format!("{error:#}"))
            }
        };
        let seconds = started.elapsed().as_secs();
        progress.print(format!("{}: done in {seconds} s", suite.name));
        Ok(Outcome {
            suite: suite.name,
            seconds,
            verdict,
        })
    }

    fn target(&self) -> Result<&Target> {
        self.target.get().context("no cluster was prepared")
    }

    fn scenario(&self) -> Result<&Scenario<'_>> {
        self.scenario.get().context("no operator was installed")
    }

    fn remove_namespace(&self) {
        if let Some(scenario) = self.scenario.get() {
            scenario.remove_namespace();
        }
    }
}
