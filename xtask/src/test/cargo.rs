//! Runs cargo with its output on the terminal and in a log, and names the failed tests.

use std::ffi::OsString;
use std::fs;

use anyhow::{Context, Result, bail};

use super::report;
use crate::process::{self, Logged, Output, WhenStopped, tail};
use crate::workspace::Workspace;

/// Runs cargo to its end. The log has the name of the suite.
///
/// # Errors
/// When it fails: with the names of the failed tests and the path of the log.
pub(super) fn run(
    workspace: &Workspace,
    suite: &str,
    arguments: &[&str],
    variables: &[(&str, OsString)],
) -> Result<()> {
    let line = arguments.join(" ");
    workspace.progress.say(format!("  cargo {line}"));
    let mut cargo = process::cargo();
    cargo
        .args(arguments)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        // The names of the failed tests are read from its output.
        .env("CARGO_TERM_COLOR", "never")
        .current_dir(&workspace.root);
    let logged = Logged {
        doing: &format!("cargo {line}"),
        log: workspace.target.join(format!("test-logs/{suite}.log")),
        when_stopped: WhenStopped::End,
    };
    let status = logged.status(&workspace.progress, &cargo, Output::Shown)?;
    if status.success() {
        return Ok(());
    }
    let log = fs::read(&logged.log).context("reading a log")?;
    let failed = report::failed_tests(&String::from_utf8_lossy(&log));
    if failed.is_empty() {
        bail!("`cargo {line}` failed ({status}); {}", tail(&logged.log));
    }
    bail!(
        "{} of its tests; the log is {}\n    {}",
        failed.len(),
        logged.log.display(),
        failed.join("\n    ")
    );
}
