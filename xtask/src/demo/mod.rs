//! `cargo xtask demo`: from an empty cluster to shards that identify one after the other.

mod failure;
mod report;
mod watch;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde_json::json;
use testnode::host::{Progress, Workspace};

use self::report::Summary;
use crate::install;
use crate::kubernetes::{Kubernetes, wait_for};
use crate::target::{self, Choice, Target};

/// The names in the manifests of the demo.
const QUEUE: &str = "my-bot";
const IMAGE: &str = "gateway-queue-e2e:dev";

/// The label of the namespaces that the demo and the tests create.
const KIND: &str = "gateway-queue-e2e";

/// As in the manifests: four pods of two shards, two buckets, and 5 s and a margin of 250 ms
/// between two identifies of a bucket.
const SHARDS: u32 = 8;
const BUCKETS: u32 = 2;
const SPACING: Duration = Duration::from_millis(5250);

/// Runs the demo, and leaves everything running.
pub(crate) fn run(workspace: &Workspace, choice: Choice) -> Result<()> {
    let target = Target::prepare(workspace, choice)?;
    let scenario = Scenario::prepare(workspace, target, "gateway-queue-demo")?;
    let summary = scenario.run()?;
    print_next_steps(&scenario.target, &scenario.namespace);
    println!("\n{}", summary.line());
    summary.verdict()
}

/// The scenario of the demo: a cluster with the operator, and a new namespace with a
/// token and a fake Discord.
pub(crate) struct Scenario<'a> {
    workspace: &'a Workspace,
    target: Target,
    namespace: String,
}

impl<'a> Scenario<'a> {
    /// Installs the operator and creates a namespace whose name begins with `kind`. Those
    /// of earlier runs are deleted.
    ///
    /// # Errors
    /// If a step fails, after printing what helps to find the cause.
    pub(crate) fn prepare(
        workspace: &'a Workspace,
        target: Target,
        kind: &'static str,
    ) -> Result<Self> {
        delete_earlier(&workspace.progress, &target.kubernetes, kind)?;
        install::operator(workspace, &target)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let scenario = Self {
            workspace,
            target,
            namespace: format!("{kind}-{}", now.unwrap_or_default().as_secs()),
        };
        scenario.set_up(kind).inspect_err(|_| scenario.explain())?;
        Ok(scenario)
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Applies a GatewayQueue and a bot, and waits until all shards are ready.
    ///
    /// # Errors
    /// If a step fails, after printing what helps to find the cause.
    pub(crate) fn run(&self) -> Result<Summary> {
        self.shards().inspect_err(|_| self.explain())
    }

    /// Deletes the namespace, without waiting. If this fails, the next run deletes it.
    pub(crate) fn remove_namespace(&self) {
        let delete = ["delete", "namespace", &self.namespace, "--wait=false"];
        let _ = self.target.kubernetes.kubectl(&delete);
    }

    fn set_up(&self, kind: &str) -> Result<()> {
        let progress = &self.workspace.progress;
        let kubernetes = &self.target.kubernetes;
        let namespace = &self.namespace;
        progress.print(format!(
            "creating the namespace {namespace} (new for each run: a queue waits 30 s if a queue \
             of the same name granted less than a minute ago)"
        ));
        kubernetes.kubectl(&["create", "namespace", namespace])?;
        let label = format!("{KIND}={kind}");
        kubernetes.kubectl(&["label", "namespace", namespace, &label])?;
        let token = "--from-literal=token=demo.token-of-no-bot";
        self.kubectl(&["create", "secret", "generic", QUEUE, token])?;
        progress.print("starting a fake Discord that enforces the rules, with max_concurrency 2");
        let discord = self.manifest("e2e/manifests/fake-discord.yaml")?;
        kubernetes.apply(namespace, &discord)?;
        rolled_out(kubernetes, namespace, "deployment/fake-discord")
    }

    fn shards(&self) -> Result<Summary> {
        let progress = &self.workspace.progress;
        let kubernetes = &self.target.kubernetes;
        progress.print(
            "applying the GatewayQueue of examples/minimal.yaml, with the API of that Discord",
        );
        kubernetes.apply(&self.namespace, &self.queue()?)?;
        let queue = format!("gatewayqueue/{QUEUE}");
        let waiting = ["wait", "--for=condition=Ready", &queue, "--timeout=90s"];
        self.kubectl(&waiting)
            .context("waiting for the GatewayQueue to be Ready")?;
        print!("\n{}\n", self.kubectl(&["get", "gwq"])?);

        progress.print(format!(
            "starting a bot: {SHARDS} shards in four pods, all at once"
        ));
        kubernetes.apply(&self.namespace, &self.manifest("e2e/manifests/bot.yaml")?)?;
        let record = watch::until_ready(kubernetes, &self.namespace, SHARDS)?;
        Ok(Summary::of(&record, SHARDS, BUCKETS, SPACING))
    }

    /// Returns the example, patched by kubectl as a user would do.
    fn queue(&self) -> Result<String> {
        let example = self.workspace.root.join("examples/minimal.yaml");
        let api = format!("http://fake-discord.{}.svc:8080/api/v10", self.namespace);
        let patch = json!({"spec": {"discordApi": api}}).to_string();
        let example = example.display().to_string();
        let patching = ["patch", "--local", "--filename", &example];
        let how = ["--type", "merge", "--patch", &patch, "--output", "yaml"];
        let kubernetes = &self.target.kubernetes;
        kubernetes.kubectl(&[&patching[..], &how].concat())
    }

    /// Returns a manifest with the image of this run.
    fn manifest(&self, path: &str) -> Result<String> {
        let text = target::read(self.workspace, path)?;
        if !text.contains(IMAGE) {
            bail!("{path} does not contain the image {IMAGE} to replace");
        }
        let image = self.target.reference("gateway-queue-e2e")?;
        Ok(text.replace(IMAGE, &image))
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let within = ["--namespace", &self.namespace];
        let kubernetes = &self.target.kubernetes;
        kubernetes.kubectl(&[&within[..], arguments].concat())
    }

    fn explain(&self) {
        failure::print(&self.target.kubernetes, &self.namespace);
    }
}

/// Deletes the namespaces of earlier runs without waiting, which would take half of the
/// longest grace period of a pod: five minutes for a queue. The pods end within seconds,
/// because the shards that use the queue are deleted first.
fn delete_earlier(progress: &Progress, kubernetes: &Kubernetes, kind: &str) -> Result<()> {
    let selector = format!("--selector={KIND}={kind}");
    let names = ["get", "namespaces", &selector, "--output=name"];
    for namespace in kubernetes.kubectl(&names)?.lines() {
        let Some(name) = namespace.strip_prefix("namespace/") else {
            continue;
        };
        progress.print(format!("deleting {namespace} of an earlier run"));
        for objects in ["statefulsets", "gatewayqueues", "deployments"] {
            let delete = ["delete", objects, "--all", "--wait=false"];
            // If this fails, the pods end later.
            let _ = kubernetes.kubectl(&[&["--namespace", name], &delete[..]].concat());
        }
        let delete = ["delete", namespace, "--ignore-not-found", "--wait=false"];
        kubernetes.kubectl(&delete)?;
    }
    Ok(())
}

fn rolled_out(kubernetes: &Kubernetes, namespace: &str, what: &str) -> Result<()> {
    let status = ["rollout", "status", what, "--timeout=60s"];
    wait_for(what, Duration::from_secs(90), || {
        kubernetes.kubectl(&[&["--namespace", namespace], &status[..]].concat())?;
        Ok(Some(()))
    })
}

/// Returns the API server's path to the record of the fake Discord.
fn record_path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/services/fake-discord:control/proxy/record")
}

fn print_next_steps(target: &Target, namespace: &str) {
    let kubeconfig = target.kubernetes.kubeconfig.display();
    let kubectl = target.kubernetes.kubectl.display();
    let record = record_path(namespace);
    let down = if target.own {
        "cargo xtask cluster down".to_owned()
    } else {
        let (release, system) = (install::RELEASE, install::NAMESPACE);
        format!("$k delete namespace {namespace}; helm uninstall {release} -n {system}")
    };
    println!(
        "
To look around:
    export KUBECONFIG={kubeconfig}
    k={kubectl}
    $k get gwq --all-namespaces -o wide
    $k -n {namespace} get all
    $k -n {namespace} describe gwq {QUEUE}
    $k -n {namespace} logs deployment/{QUEUE}-queue
    $k get --raw {record}
To tear down:
    {down}"
    );
}
