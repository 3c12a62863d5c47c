//! kubectl, in the test's own namespace.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;

use serde_json::{Value, json};

/// The token that the fake Discord accepts.
pub(crate) const TOKEN: &str = "demo.token-of-no-bot";

/// An empty namespace, deleted when dropped.
pub(crate) struct Namespace(String);

impl Namespace {
    pub(crate) fn create(name: String, labels: &Value) -> Self {
        let metadata = json!({"name": name, "labels": labels});
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
        feed("create --filename -", &object.to_string()).unwrap();
        Self(name)
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// Runs kubectl, and returns its output or its error message. No argument contains a space.
    pub(crate) fn kubectl(&self, arguments: &str) -> Result<String, String> {
        self.feed(arguments, "")
    }

    /// Runs kubectl with an input.
    pub(crate) fn feed(&self, arguments: &str, input: &str) -> Result<String, String> {
        feed(&format!("--namespace {} {arguments}", self.0), input)
    }

    /// Returns an object or a list.
    pub(crate) fn get(&self, what: &str) -> Value {
        let object = self.kubectl(&format!("get {what} --output=json"));
        serde_json::from_str(&object.unwrap()).unwrap()
    }

    /// Returns one field of an object; empty if it is not set.
    pub(crate) fn field(&self, object: &str, path: &str) -> String {
        let get = format!("get {object} --output=jsonpath={{{path}}}");
        self.kubectl(&get).unwrap()
    }

    /// Applies a GatewayQueue with this spec.
    pub(crate) fn apply_queue(&self, name: &str, spec: &Value) -> Result<String, String> {
        self.feed("apply --filename -", &queue(name, spec).to_string())
    }

    /// Waits until all of these GatewayQueues are ready.
    pub(crate) fn wait_until_ready(&self, queues: &str) {
        let wait = format!("wait gwq --for=condition=Ready --timeout=180s {queues}");
        self.kubectl(&wait).unwrap();
    }

    pub(crate) fn create_secret(&self, name: &str) {
        let create = format!("create secret generic {name} --from-literal=token={TOKEN}");
        self.kubectl(&create).unwrap();
    }

    /// Prints the state, the events and the logs, for the report of a failed test.
    fn report(&self) {
        let queue = "logs --selector=app.kubernetes.io/name=gateway-queue --prefix --tail=100";
        let operator = "gateway-queue-operator";
        for arguments in [
            "get all,gwq,leases,endpointslices,roles --output=wide",
            "describe gwq",
            "describe pods",
            "get leases --output=yaml",
            "get events --sort-by=.metadata.creationTimestamp",
            queue,
            // Only of restarted containers.
            &format!("{queue} --previous"),
            &format!("logs --selector=app.kubernetes.io/name={operator} --tail=100"),
            &format!("logs --namespace=gateway-queue-system deployment/{operator} --tail=100"),
        ] {
            let output = self.kubectl(arguments).unwrap_or_else(|error| error);
            println!("--- {} kubectl {arguments}\n{output}", self.0);
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if thread::panicking() {
            self.report();
        }
        let _ = kubectl(&format!("delete namespace {} --wait=false", self.0));
    }
}

/// A GatewayQueue manifest.
pub(crate) fn queue(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "gatewayqueue.dev/v1alpha1",
        "kind": "GatewayQueue",
        "metadata": {"name": name},
        "spec": spec,
    })
}

/// The address of the fake Discord of the demo's scenario.
pub(crate) fn discord_api() -> String {
    let namespace = variable("E2E_NAMESPACE");
    format!("http://fake-discord.{namespace}.svc:8080/api/v10")
}

/// Runs kubectl, and returns its output or its error message. No argument contains a space.
pub(crate) fn kubectl(arguments: &str) -> Result<String, String> {
    feed(arguments, "")
}

/// Runs kubectl with an input.
pub(crate) fn feed(arguments: &str, input: &str) -> Result<String, String> {
    run(&mut command(arguments), input)
}

/// A kubectl command that is not started yet.
pub(crate) fn command(arguments: &str) -> Command {
    // KUBECONFIG is inherited.
    variable("KUBECONFIG");
    let mut command = Command::new(variable("KUBECTL"));
    command.args(arguments.split_whitespace());
    command
}

/// Runs a program to its end. Returns its output, or everything that it printed if it fails.
pub(crate) fn run(command: &mut Command, input: &str) -> Result<String, String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // A program may end before it has read all its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}\n{stdout}\n{stderr}"))
}

pub(crate) fn variable(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run these tests by `cargo xtask test`"))
}
