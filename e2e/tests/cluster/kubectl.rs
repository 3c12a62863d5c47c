//! kubectl, in a namespace of the test's own.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// The token that the fake Discord takes.
pub(crate) const TOKEN: &str = "demo.token-of-no-bot";

/// All tests need the API server, and many measure times. Who takes it away, or keeps
/// the machine busy, is alone meanwhile.
static API_SERVER: RwLock<()> = RwLock::new(());

/// A namespace with nothing in it, removed when dropped.
pub(crate) struct Namespace {
    name: String,
    _shared: Option<RwLockReadGuard<'static, ()>>,
    _alone: Option<RwLockWriteGuard<'static, ()>>,
}

impl Namespace {
    /// Makes it anew: an earlier run may have been killed.
    pub(crate) fn new(name: &str) -> Self {
        // A test that failed has put back what it took.
        let shared = API_SERVER.read().unwrap_or_else(PoisonError::into_inner);
        Self::made(name, Some(shared), None)
    }

    /// The same, while no other test has one.
    pub(crate) fn alone(name: &str) -> Self {
        let alone = API_SERVER.write().unwrap_or_else(PoisonError::into_inner);
        Self::made(name, None, Some(alone))
    }

    fn made(
        name: &str,
        shared: Option<RwLockReadGuard<'static, ()>>,
        alone: Option<RwLockWriteGuard<'static, ()>>,
    ) -> Self {
        let namespace = Self {
            name: format!("gwq-e2e-{name}"),
            _shared: shared,
            _alone: alone,
        };
        run(
            &["delete", "namespace", &namespace.name, "--ignore-not-found"],
            "",
        )
        .unwrap();
        run(&["create", "namespace", &namespace.name], "").unwrap();
        namespace
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What kubectl prints, or what it complains about.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        self.feed(arguments, "")
    }

    pub(crate) fn apply(&self, manifest: &str) -> Result<String, String> {
        self.feed(&["apply", "--filename", "-"], manifest)
    }

    /// A GatewayQueue with this spec, as JSON.
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

    pub(crate) fn create_secret(&self, name: &str) {
        let token = format!("--from-literal=token={TOKEN}");
        self.kubectl(&["create", "secret", "generic", name, &token])
            .unwrap();
    }

    /// A command that is not started yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = kubectl();
        command.args(["--namespace", &self.name]).args(arguments);
        command
    }

    /// The names of everything that a GatewayQueue makes, one a line.
    pub(crate) fn children(&self) -> String {
        let kinds = "deployments,replicasets,pods,services,leases,roles,rolebindings,\
                     serviceaccounts,poddisruptionbudgets,networkpolicies";
        let mine = "--selector=app.kubernetes.io/managed-by=gateway-queue-operator";
        self.kubectl(&["get", kinds, mine, "--output", "name"])
            .unwrap()
    }

    pub(crate) fn feed(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        run(&[&["--namespace", &self.name], arguments].concat(), input)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if thread::panicking() {
            self.explain();
        }
        let _ = self
            .command(&["delete", "namespace", &self.name, "--wait=false"])
            .output();
    }
}

impl Namespace {
    /// Prints the state, the events and the logs: what a person needs to find the cause
    /// of a failure.
    fn explain(&self) {
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
            // Of containers that ended; pods that never restarted have none.
            &[&logs[..], &["--previous"]].concat(),
            &operator,
        ] {
            let output = self.kubectl(arguments).unwrap_or_else(|error| error);
            println!("--- kubectl {}\n{output}", arguments.join(" "));
        }
    }
}

/// The address of the fake Discord that the scenario before these tests left.
pub(crate) fn discord_api() -> String {
    discord_api_in(&variable("E2E_NAMESPACE"))
}

/// The address of a fake Discord in another namespace.
pub(crate) fn discord_api_in(namespace: &str) -> String {
    format!("http://fake-discord.{namespace}.svc:8080/api/v10")
}

/// The start of this run of `cargo xtask test`. Older lines of the operator's log belong
/// to earlier runs.
pub(crate) fn run_started() -> Timestamp {
    let second = variable("E2E_STARTED").parse().unwrap();
    Timestamp::from_second(second).unwrap()
}

/// Where the operator is, and its name there.
pub(crate) const OPERATOR: (&str, &str) = ("gateway-queue-system", "gateway-queue-operator");

/// The namespace and the name of the Lease by which operators of all namespaces agree on
/// a leader.
pub(crate) const ELECTION: (&str, &str) = ("kube-system", "operator.gatewayqueue.dev");

/// The image of the operator.
pub(crate) fn operator_image() -> String {
    let namespace = format!("--namespace={}", OPERATOR.0);
    let path = "jsonpath={.spec.template.spec.containers[0].image}";
    let deployment = ["get", "deployment", OPERATOR.1, &namespace];
    run(&[&deployment[..], &["--output", path]].concat(), "").unwrap()
}

/// Prints a line also when the test passes: the harness keeps what is printed by
/// macros, and nothing else.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The image of the shards and of that fake Discord.
pub(crate) fn shards_image() -> String {
    let namespace = format!("--namespace={}", variable("E2E_NAMESPACE"));
    let path = "jsonpath={.spec.template.spec.containers[0].image}";
    let deployment = ["get", "deployment", "fake-discord", &namespace];
    run(&[&deployment[..], &["--output", path]].concat(), "").unwrap()
}

/// Looks again and again until `look` finds something.
pub(crate) fn wait_for<T>(
    what: &str,
    patience: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            started.elapsed() < patience,
            "waited {patience:?} for {what}"
        );
        thread::sleep(Duration::from_millis(300));
    }
}

fn run(arguments: &[&str], input: &str) -> Result<String, String> {
    let mut child = kubectl()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // kubectl may refuse before it reads.
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
