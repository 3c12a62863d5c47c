//! kubectl, in the test's own namespace.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;

use jiff::Timestamp;

use crate::schedule::{Phase, Slot};

/// The token that the fake Discord accepts.
pub(crate) const TOKEN: &str = "demo.token-of-no-bot";

/// An empty namespace, deleted when dropped.
pub(crate) struct Namespace {
    name: String,
    /// The permission to run, of the first namespace of a test.
    slot: Option<Mutex<Slot>>,
}

impl Namespace {
    /// Creates one for a test that mostly waits.
    pub(crate) fn new(name: &str) -> Self {
        Self::in_phase(name, Phase::Short)
    }

    /// Creates one when this phase has come. A namespace that is left from an earlier run is
    /// deleted first.
    pub(crate) fn in_phase(name: &str, phase: Phase) -> Self {
        let slot = Slot::of(phase);
        Self::create(name, Some(Mutex::new(slot)))
    }

    /// Creates another one for the same test.
    pub(crate) fn another(&self, name: &str) -> Self {
        Self::create(name, None)
    }

    fn create(name: &str, slot: Option<Mutex<Slot>>) -> Self {
        let name = format!("gwq-e2e-{name}");
        run(&["delete", "namespace", &name, "--ignore-not-found"], "").unwrap();
        run(&["create", "namespace", &name], "").unwrap();
        Self { name, slot }
    }

    /// Waits for a later phase.
    pub(crate) fn move_to(&self, phase: Phase) {
        if let Some(slot) = &self.slot {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            slot.move_to(phase);
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs kubectl, and returns its output or its error message.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        self.feed(arguments, "")
    }

    pub(crate) fn apply(&self, manifest: &str) -> Result<String, String> {
        self.feed(&["apply", "--filename", "-"], manifest)
    }

    /// Applies a GatewayQueue with this spec.
    pub(crate) fn apply_queue(
        &self,
        name: &str,
        spec: &serde_json::Value,
    ) -> Result<String, String> {
        let queue = serde_json::json!({
            "apiVersion": "gatewayqueue.dev/v1alpha1",
            "kind": "GatewayQueue",
            "metadata": {"name": name},
            "spec": spec,
        });
        self.apply(&queue.to_string())
    }

    /// Waits until all of these GatewayQueues are ready.
    pub(crate) fn wait_until_ready(&self, queues: &[&str]) {
        let wait = ["wait", "gwq", "--for=condition=Ready", "--timeout=90s"];
        self.kubectl(&[&wait[..], queues].concat()).unwrap();
    }

    pub(crate) fn create_secret(&self, name: &str) {
        let token = format!("--from-literal=token={TOKEN}");
        self.kubectl(&["create", "secret", "generic", name, &token])
            .unwrap();
    }

    /// A kubectl command that is not started yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = kubectl();
        command.args(["--namespace", &self.name]).args(arguments);
        command
    }

    /// The names of all children of GatewayQueues, one per line.
    pub(crate) fn children(&self) -> String {
        let kinds = "deployments,replicasets,pods,services,leases,roles,rolebindings,\
                     serviceaccounts,poddisruptionbudgets,networkpolicies";
        let selector = "--selector=app.kubernetes.io/managed-by=gateway-queue-operator";
        self.kubectl(&["get", kinds, selector, "--output", "name"])
            .unwrap()
    }

    pub(crate) fn feed(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        run(&[&["--namespace", &self.name], arguments].concat(), input)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if thread::panicking() {
            self.report();
        }
        let _ = self
            .command(&["delete", "namespace", &self.name, "--wait=false"])
            .output();
    }
}

impl Namespace {
    /// Prints the state, the events and the logs, for the report of a failed test.
    fn report(&self) {
        let queue = "--selector=app.kubernetes.io/name=gateway-queue";
        let logs = ["logs", queue, "--prefix", "--tail=100"];
        let operator = format!("deployment/{}", OPERATOR.1);
        let operator = ["logs", "--namespace", OPERATOR.0, &operator, "--tail=100"];
        for arguments in [
            &["get", "all,leases,endpointslices", "--output=wide"][..],
            &["describe", "gwq"],
            &["describe", "pods"],
            &["get", "leases", "--output=yaml"],
            &["get", "events", "--sort-by=.metadata.creationTimestamp"],
            &logs,
            // Only of restarted containers.
            &[&logs[..], &["--previous"]].concat(),
            &operator,
        ] {
            let output = self.kubectl(arguments).unwrap_or_else(|error| error);
            println!("--- kubectl {}\n{output}", arguments.join(" "));
        }
    }
}

/// The address of the fake Discord of the demo's scenario.
pub(crate) fn discord_api() -> String {
    discord_api_in(&variable("E2E_NAMESPACE"))
}

/// The address of a fake Discord in another namespace.
pub(crate) fn discord_api_in(namespace: &str) -> String {
    format!("http://fake-discord.{namespace}.svc:8080/api/v10")
}

/// The start of this run of `cargo xtask test`. Older lines of the operator's log belong to
/// earlier runs.
pub(crate) fn run_started() -> Timestamp {
    let second = variable("E2E_STARTED").parse().unwrap();
    Timestamp::from_second(second).unwrap()
}

/// The namespace and the name of the operator.
pub(crate) const OPERATOR: (&str, &str) = ("gateway-queue-system", "gateway-queue-operator");

/// The namespace and the name of the Lease of the operators of all namespaces.
pub(crate) const ELECTION: (&str, &str) = ("kube-system", "operator.gatewayqueue.dev");

/// The image of the operator.
pub(crate) fn operator_image() -> String {
    image(OPERATOR.0, OPERATOR.1)
}

/// The image of the shards and the fake Discord.
pub(crate) fn shards_image() -> String {
    image(&variable("E2E_NAMESPACE"), "fake-discord")
}

fn image(namespace: &str, deployment: &str) -> String {
    let path = "--output=jsonpath={.spec.template.spec.containers[0].image}";
    let get = [
        "get",
        "deployment",
        deployment,
        "--namespace",
        namespace,
        path,
    ];
    run(&get, "").unwrap()
}

/// Prints a line even if the test passes: the harness captures only what macros print.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The seed of a random test: SEED, or a random one. It is printed.
pub(crate) fn seed() -> u64 {
    let seed = std::env::var("SEED").map_or_else(|_| fastrand::u64(..), |s| s.parse().unwrap());
    say(&format!("SEED={seed}"));
    seed
}

fn run(arguments: &[&str], input: &str) -> Result<String, String> {
    let mut child = kubectl()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // kubectl may fail before it reads.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    match status.success() {
        true => Ok(String::from_utf8(stdout).unwrap()),
        false => Err(String::from_utf8(stderr).unwrap()),
    }
}

fn kubectl() -> Command {
    // KUBECONFIG is inherited.
    variable("KUBECONFIG");
    Command::new(variable("KUBECTL"))
}

pub(crate) fn variable(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run these tests by `cargo xtask test`"))
}
