//! Runs cargo with its output on the terminal and in a log, and names the failed tests.

use std::ffi::OsString;
use std::fs;

use anyhow::{Context, Result, bail};
use testnode::host::Workspace;
use testnode::host::process::{Logged, tail};

use super::report;

/// Runs cargo to its end. The log has the name of the suite.
pub(super) fn run(
    workspace: &Workspace,
    suite: &str,
    arguments: &[&str],
    variables: &[(&str, OsString)],
) -> Result<()> {
    let line = arguments.join(" ");
    workspace.progress.print(format!("  cargo {line}"));
    let mut cargo = crate::cargo(workspace);
    cargo
        .args(arguments)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        // The names of the failed tests are read from its output.
        .env("CARGO_TERM_COLOR", "never");
    let log = workspace.target.join(format!("test-logs/{suite}.log"));
    let status = Logged::new(&format!("cargo {line}"), &log).show(&cargo)?;
    if status.success() {
        return Ok(());
    }
    let output = fs::read(&log).context("reading a log")?;
    let failed = report::failed_tests(&String::from_utf8_lossy(&output));
    if failed.is_empty() {
        bail!("`cargo {line}` failed ({status}); {}", tail(&log));
    }
    bail!(
        "{} tests failed; the log is {}\n    {}",
        failed.len(),
        log.display(),
        failed.join("\n    ")
    );
}
