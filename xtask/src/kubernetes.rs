//! A cluster as a person reaches it: with kubectl and helm.

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::interrupt;
use crate::process;

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(300);

/// The programs, and the access that they use.
#[derive(Clone, Debug)]
pub(crate) struct Kubernetes {
    pub(crate) kubectl: PathBuf,
    pub(crate) helm: PathBuf,
    pub(crate) kubeconfig: PathBuf,
}

impl Kubernetes {
    /// kubectl with these arguments, not started yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut kubectl = Command::new(&self.kubectl);
        kubectl
            .env("KUBECONFIG", &self.kubeconfig)
            .args(["--request-timeout", "40s"])
            .args(arguments);
        kubectl
    }

    /// helm with these arguments, not started yet.
    pub(crate) fn helm(&self, arguments: &[&str]) -> Command {
        let mut helm = Command::new(&self.helm);
        helm.env("KUBECONFIG", &self.kubeconfig).args(arguments);
        helm
    }

    /// What kubectl prints.
    ///
    /// # Errors
    /// When it fails: with what it said.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        process::output(&mut self.command(arguments))
    }

    /// Applies a manifest in a namespace.
    ///
    /// # Errors
    /// When the cluster refuses it: with what it said.
    pub(crate) fn apply(&self, namespace: &str, manifest: &str) -> Result<()> {
        let arguments = ["--namespace", namespace, "apply", "--filename", "-"];
        process::feed(&mut self.command(&arguments), manifest)
    }

    /// A path of the API server, as JSON.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn raw(&self, path: &str) -> Result<Value> {
        let said = self.kubectl(&["get", "--raw", path])?;
        serde_json::from_str(&said).with_context(|| format!("{path} is no JSON: {said}"))
    }

    /// What tells this cluster from others.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub(crate) fn identity(&self) -> Result<String> {
        let uid = "jsonpath={.metadata.uid}";
        self.kubectl(&["get", "namespace", "kube-system", "--output", uid])
    }
}

/// Looks again and again until `look` finds something. An error counts as not
/// yet: clusters answer so while they settle.
///
/// # Errors
/// When nothing was found in time: with the last error; or when interrupted.
pub(crate) fn wait_for<T>(
    what: &str,
    patience: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        interrupt::check()?;
        let last = match look() {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if started.elapsed() > patience {
            let seconds = patience.as_secs();
            match last {
                Some(error) => {
                    return Err(error.context(format!("waited {seconds} s for {what}")));
                }
                None => bail!("waited {seconds} s for {what}, in vain"),
            }
        }
        thread::sleep(LOOK);
    }
}
