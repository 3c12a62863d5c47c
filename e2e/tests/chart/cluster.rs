//! kubectl, and namespaces that pods of the restricted kind alone may run in.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The token that the fake Discord takes.
pub(crate) const TOKEN: &str = "demo.token-of-no-bot";

/// For what a node does that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// A namespace with nothing in it, removed when dropped.
pub(crate) struct Namespace(String);

impl Namespace {
    /// Makes it anew: an earlier run may have been killed.
    pub(crate) fn new(name: &str) -> Self {
        let namespace = Self(format!("gwq-chart-{name}"));
        kubectl(&["delete", "namespace", &namespace.0, "--ignore-not-found"]).unwrap();
        kubectl(&["create", "namespace", &namespace.0]).unwrap();
        let restricted = "pod-security.kubernetes.io/enforce=restricted";
        kubectl(&["label", "namespace", &namespace.0, restricted]).unwrap();
        namespace
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        kubectl(&[&["--namespace", &self.0], arguments].concat())
    }

    pub(crate) fn feed(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        feed(&[&["--namespace", &self.0], arguments].concat(), input)
    }

    /// A queue that needs no Discord.
    pub(crate) fn apply_queue(&self, name: &str) {
        let queue = serde_json::json!({
            "apiVersion": "gatewayqueue.dev/v1alpha1",
            "kind": "GatewayQueue",
            "metadata": {"name": name},
            "spec": {"maxConcurrency": 2},
        });
        // A definition that has just come is served a moment later.
        wait_for("a GatewayQueue to be taken", || {
            self.feed(&["apply", "--filename", "-"], &queue.to_string())
        });
    }

    pub(crate) fn wait_until_ready(&self, queue: &str) {
        let queue = format!("gwq/{queue}");
        let ready = ["wait", "--for=condition=Ready", &queue, "--timeout=180s"];
        self.kubectl(&ready).unwrap();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if thread::panicking() {
            self.tell();
        }
        let _ = kubectl(&["delete", "namespace", &self.0, "--wait=false"]);
    }
}

impl Namespace {
    /// What a person needs to find out why a test failed.
    fn tell(&self) {
        for arguments in [
            &["get", "all,gwq,leases,roles", "--output", "wide"][..],
            &["get", "events"],
            &["describe", "gwq"],
            &["describe", "pods"],
            &[
                "logs",
                "--selector=app.kubernetes.io/name=gateway-queue-operator",
                "--tail=60",
            ],
        ] {
            let said = self.kubectl(arguments).unwrap_or_else(|error| error);
            println!("--- {} kubectl {}\n{said}", self.0, arguments.join(" "));
        }
    }
}

/// What kubectl prints, or what it complains about.
pub(crate) fn kubectl(arguments: &[&str]) -> Result<String, String> {
    feed(arguments, "")
}

/// The same, with something to read.
pub(crate) fn feed(arguments: &[&str], input: &str) -> Result<String, String> {
    // KUBECONFIG is inherited.
    variable("KUBECONFIG");
    run(Command::new(variable("KUBECTL")).args(arguments), input)
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command, input: &str) -> Result<String, String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // It may end before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let out = child.wait_with_output().unwrap();
    let stdout = String::from_utf8_lossy(&out.stdout).into_owned();
    match out.status.success() {
        true => Ok(stdout),
        false => Err(format!(
            "{command:?}\n{stdout}\n{}",
            String::from_utf8_lossy(&out.stderr)
        )),
    }
}

/// Tries again and again until it works.
pub(crate) fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        let error = match attempt() {
            Ok(found) => return found,
            Err(error) => error,
        };
        let waited = started.elapsed();
        assert!(waited < PATIENCE, "waited {waited:?} for {what}: {error}");
        thread::sleep(Duration::from_millis(300));
    }
}

pub(crate) fn variable(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run these tests by `cargo xtask test`"))
}
