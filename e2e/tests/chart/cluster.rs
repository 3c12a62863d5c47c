//! kubectl, namespaces and GatewayQueues.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Once;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long a busy node may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// The label of all namespaces of these tests.
const LABEL: &str = "gateway-queue-chart-test";

/// An empty namespace that enforces the restricted Pod Security Standard. Deleted when dropped.
pub(crate) struct Namespace(String);

impl Namespace {
    pub(crate) fn new(name: &str) -> Self {
        static EARLIER_RUNS: Once = Once::new();
        EARLIER_RUNS.call_once(|| {
            kubectl(&["delete", "namespace", "--wait=false", "--selector", LABEL]).unwrap();
        });
        // A name of its own, because the namespace of an earlier run may still be terminating.
        let namespace = Self(format!("gwq-chart-{name}-{}", variable("E2E_STARTED")));
        let labels = json!({LABEL: name, "pod-security.kubernetes.io/enforce": "restricted"});
        let metadata = json!({"name": namespace.0, "labels": labels});
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
        feed(&["create", "--filename", "-"], &object.to_string()).unwrap();
        namespace
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        self.feed(arguments, "")
    }

    /// Runs kubectl with an input.
    pub(crate) fn feed(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        feed(&[&["--namespace", &self.0], arguments].concat(), input)
    }

    /// Returns an object or a list.
    pub(crate) fn get(&self, what: &[&str]) -> Value {
        let get = [&["get", "--output=json"], what].concat();
        serde_json::from_str(&self.kubectl(&get).unwrap()).unwrap()
    }

    /// Returns one field of an object.
    pub(crate) fn field(&self, object: &str, path: &str) -> Result<String, String> {
        self.kubectl(&["get", object, &format!("--output=jsonpath={{{path}}}")])
    }

    /// Applies a GatewayQueue.
    pub(crate) fn apply_queue(&self, name: &str, spec: &Value) {
        let queue = json!({
            "apiVersion": "gatewayqueue.dev/v1alpha1",
            "kind": "GatewayQueue",
            "metadata": {"name": name},
            "spec": spec,
        });
        // The API server serves a new CustomResourceDefinition a moment later.
        wait_for("a GatewayQueue to be accepted", || {
            self.feed(&["apply", "--filename", "-"], &queue.to_string())
        });
    }

    pub(crate) fn wait_until_ready(&self, queue: &str) {
        let queue = format!("gwq/{queue}");
        let ready = ["wait", "--for=condition=Ready", &queue, "--timeout=180s"];
        self.kubectl(&ready).unwrap();
    }

    /// Prints what is needed to find out why a test failed.
    fn print(&self) {
        let operator = "--selector=app.kubernetes.io/name=gateway-queue-operator";
        for arguments in [
            &["get", "all,gwq,leases,roles", "--output", "wide"][..],
            &["get", "events"],
            &["describe", "gwq"],
            &["describe", "pods"],
            &["logs", operator, "--tail=60"],
        ] {
            let output = self.kubectl(arguments).unwrap_or_else(|error| error);
            println!("--- {} kubectl {}\n{output}", self.0, arguments.join(" "));
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if thread::panicking() {
            self.print();
        }
        let _ = kubectl(&["delete", "namespace", &self.0, "--wait=false"]);
    }
}

/// The spec of a queue that needs no Discord.
pub(crate) fn without_discord() -> Value {
    json!({"maxConcurrency": 2})
}

/// Returns the output of kubectl, or its error.
pub(crate) fn kubectl(arguments: &[&str]) -> Result<String, String> {
    feed(arguments, "")
}

/// Runs kubectl with an input.
pub(crate) fn feed(arguments: &[&str], input: &str) -> Result<String, String> {
    // kubectl inherits it.
    variable("KUBECONFIG");
    run(Command::new(variable("KUBECTL")).args(arguments), input)
}

/// Runs a program to its end. Returns its output, or all that it printed if it fails.
pub(crate) fn run(command: &mut Command, input: &str) -> Result<String, String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // A program may end before it has read all its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let out = child.wait_with_output().unwrap();
    let stdout = String::from_utf8_lossy(&out.stdout).into_owned();
    if out.status.success() {
        Ok(stdout)
    } else {
        let stderr = String::from_utf8_lossy(&out.stderr);
        Err(format!("{command:?}\n{stdout}\n{stderr}"))
    }
}

/// Repeats an attempt until it succeeds.
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
        .unwrap_or_else(|_| panic!("{name} is not set: run these tests with `cargo xtask test`"))
}

/// A file or folder of the checkout.
pub(crate) fn checkout(path: &str) -> String {
    format!("{}/../{path}", variable("CARGO_MANIFEST_DIR"))
}
