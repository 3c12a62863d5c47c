//! `cargo xtask demo`: the main job, from nothing to shards that identify one
//! after the other.

mod failure;
mod report;
mod watch;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde_json::json;

use self::report::Summary;
use crate::install;
use crate::kubernetes::{Kubernetes, wait_for};
use crate::progress::Progress;
use crate::target::{self, Choice, Target};
use crate::workspace::Workspace;

/// How the parts of the demo are named in their manifests.
const QUEUE: &str = "my-bot";
const IMAGE: &str = "gateway-queue-e2e:dev";

/// The label of the namespaces that the demo and the tests create.
const KIND: &str = "gateway-queue-e2e";

/// Four pods of two shards; two buckets; 5 s and the margin of 250 ms between
/// two identifies of a bucket. As the manifests have it.
const SHARDS: u32 = 8;
const BUCKETS: u32 = 2;
const SPACING: Duration = Duration::from_millis(5250);

/// Runs the demo, and leaves everything up to look around.
///
/// # Errors
/// When a step fails, a shard does not become ready, or one identified too
/// early.
pub(crate) fn run(workspace: &Workspace, choice: Choice) -> Result<()> {
    let target = Target::prepare(workspace, choice)?;
    let scenario = Scenario::prepare(workspace, target, "gateway-queue-demo")?;
    let summary = scenario.run()?;
    look_around(&scenario.target, &scenario.namespace);
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
    /// When a step fails; what a person needs to find the cause is printed.
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

    /// The namespace.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Applies a GatewayQueue and a bot, and waits until all shards are ready.
    ///
    /// # Errors
    /// When a step fails; what a person needs to find the cause is printed.
    pub(crate) fn run(&self) -> Result<Summary> {
        self.shards().inspect_err(|_| self.explain())
    }

    fn set_up(&self, kind: &str) -> Result<()> {
        let progress = &self.workspace.progress;
        let kubernetes = &self.target.kubernetes;
        let namespace = &self.namespace;
        progress.say(format!(
            "a namespace: {namespace} (new for each run: a new queue waits 30 s if one of the same \
             name granted less than a minute ago)"
        ));
        kubernetes.kubectl(&["create", "namespace", namespace])?;
        let label = format!("{KIND}={kind}");
        kubernetes.kubectl(&["label", "namespace", namespace, &label])?;
        let token = "--from-literal=token=demo.token-of-no-bot";
        self.kubectl(&["create", "secret", "generic", QUEUE, token])?;
        progress.say("a fake Discord that enforces the rules, with max_concurrency 2");
        let discord = self.manifest("e2e/manifests/fake-discord.yaml")?;
        kubernetes.apply(namespace, &discord)?;
        rolled_out(kubernetes, namespace, "deployment/fake-discord")
    }

    fn shards(&self) -> Result<Summary> {
        let progress = &self.workspace.progress;
        let kubernetes = &self.target.kubernetes;
        progress.say(
            "kubectl apply: the GatewayQueue of examples/minimal.yaml, pointed at that Discord",
        );
        kubernetes.apply(&self.namespace, &self.queue()?)?;
        let queue = format!("gatewayqueue/{QUEUE}");
        let waiting = ["wait", "--for=condition=Ready", &queue, "--timeout=90s"];
        self.kubectl(&waiting)
            .context("waiting for the GatewayQueue to be Ready")?;
        print!("\n{}\n", self.kubectl(&["get", "gwq"])?);

        progress.say(format!("a bot: {SHARDS} shards in four pods, all at once"));
        kubernetes.apply(&self.namespace, &self.manifest("e2e/manifests/bot.yaml")?)?;
        let record = watch::until_ready(kubernetes, &self.namespace, SHARDS)?;
        Ok(Summary::of(&record, SHARDS, BUCKETS, SPACING))
    }

    /// The example, changed as a user would change it, with kubectl's own means.
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

    /// A manifest with the image of this run.
    fn manifest(&self, path: &str) -> Result<String> {
        let text = target::read(self.workspace, path)?;
        if !text.contains(IMAGE) {
            bail!("{path} does not name the image {IMAGE}, which is to be replaced");
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
        failure::tell(&self.target.kubernetes, &self.namespace);
    }
}

/// Deletes the namespaces of earlier runs, and does not wait for that: it takes half of
/// the longest grace period of a pod, which is five minutes for a queue. Their pods end
/// within seconds, as the shards no longer ask the queue.
fn delete_earlier(progress: &Progress, kubernetes: &Kubernetes, kind: &str) -> Result<()> {
    let selector = format!("--selector={KIND}={kind}");
    let names = ["get", "namespaces", &selector, "--output=name"];
    for namespace in kubernetes.kubectl(&names)?.lines() {
        let Some(name) = namespace.strip_prefix("namespace/") else {
            continue;
        };
        progress.say(format!("deleting the {namespace} of an earlier run"));
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

fn look_around(target: &Target, namespace: &str) {
    let kubeconfig = target.kubernetes.kubeconfig.display();
    let kubectl = target.kubernetes.kubectl.display();
    let down = match target.own {
        true => "cargo xtask cluster down".to_owned(),
        false => format!(
            "$k delete namespace {namespace}; helm uninstall {} -n {}",
            install::RELEASE,
            install::NAMESPACE
        ),
    };
    println!(
        "
To look around:
    export KUBECONFIG={kubeconfig}
    k={kubectl}
    $k get gwq --all-namespaces -o wide
    $k -n {namespace} get all
    $k -n {namespace} describe gwq {QUEUE}
    $k -n {namespace} logs deployment/{QUEUE}
    $k get --raw /api/v1/namespaces/{namespace}/services/fake-discord:control/proxy/record
To tear down:
    {down}"
    );
}
