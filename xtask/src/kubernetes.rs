//! A cluster, by kubectl and helm.

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde_json::Value;
use testnode::host::{interrupt, process};

/// How often a condition is checked.
const POLL: Duration = Duration::from_millis(300);

/// The programs, and the access that they use.
#[derive(Clone, Debug)]
pub(crate) struct Kubernetes {
    pub(crate) kubectl: PathBuf,
    pub(crate) helm: PathBuf,
    pub(crate) kubeconfig: PathBuf,
}

impl Kubernetes {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut kubectl = Command::new(&self.kubectl);
        kubectl
            .env("KUBECONFIG", &self.kubeconfig)
            .args(["--request-timeout", "40s"])
            .args(arguments);
        kubectl
    }

    pub(crate) fn helm(&self, arguments: &[&str]) -> Result<String> {
        let mut helm = Command::new(&self.helm);
        process::output(helm.env("KUBECONFIG", &self.kubeconfig).args(arguments))
    }

    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        process::output(&mut self.command(arguments))
    }

    /// Applies a manifest in a namespace.
    ///
    /// # Errors
    /// If the cluster refuses it: with the reason.
    pub(crate) fn apply(&self, namespace: &str, manifest: &str) -> Result<()> {
        let arguments = ["--namespace", namespace, "apply", "--filename", "-"];
        process::feed(&mut self.command(&arguments), manifest)
    }

    /// Returns a path of the API server, as JSON.
    pub(crate) fn raw(&self, path: &str) -> Result<Value> {
        let answer = self.kubectl(&["get", "--raw", path])?;
        serde_json::from_str(&answer).with_context(|| format!("{path} is not JSON: {answer}"))
    }

    pub(crate) fn identity(&self) -> Result<String> {
        let uid = "jsonpath={.metadata.uid}";
        self.kubectl(&["get", "namespace", "kube-system", "--output", uid])
    }
}

/// Retries `check` until it returns a value. Errors are retried, too: clusters return them
/// while they settle.
///
/// # Errors
/// If it takes longer than `timeout`: with the last error. If the command is interrupted.
pub(crate) fn wait_for<T>(
    what: &str,
    timeout: Duration,
    mut check: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        interrupt::check()?;
        let last = match check() {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => anyhow!("no result"),
            Err(error) => error,
        };
        if started.elapsed() > timeout {
            let seconds = timeout.as_secs();
            return Err(last.context(format!("waited {seconds} s for {what}")));
        }
        thread::sleep(POLL);
    }
}
