//! `cargo xtask demo`: the main job, from nothing to shards that identify one
//! after the other.

mod failure;
mod report;
mod watch;

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
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
    look_around(&scenario.target, scenario.namespace);
    println!("\n{}", summary.line());
    summary.verdict()
}

/// The scenario of the demo: a cluster with the operator, and a new namespace with a
/// token and a fake Discord.
pub(crate) struct Scenario<'a> {
    workspace: &'a Workspace,
    target: Target,
    namespace: &'static str,
    /// The Secret with the token.
    secret: String,
}

impl<'a> Scenario<'a> {
    /// Installs the operator and creates the namespace. What an earlier run left in it is
    /// deleted.
    ///
    /// # Errors
    /// When a step fails; what a person needs to find the cause is printed.
    pub(crate) fn prepare(
        workspace: &'a Workspace,
        target: Target,
        namespace: &'static str,
    ) -> Result<Self> {
        let progress = &workspace.progress;
        let kubernetes = &target.kubernetes;
        thread::scope(|scope| {
            let deletion = scope.spawn(|| delete_earlier(progress, kubernetes, namespace));
            install::operator(workspace, &target)?;
            let deletion = deletion.join();
            deletion.map_err(|_| anyhow!("the deletion of {namespace} panicked"))?
        })?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let scenario = Self {
            workspace,
            target,
            namespace,
            secret: format!("{QUEUE}-{}", now.unwrap_or_default().as_secs()),
        };
        scenario.set_up().inspect_err(|_| scenario.explain())?;
        Ok(scenario)
    }

    /// Applies a GatewayQueue and a bot, and waits until all shards are ready.
    ///
    /// # Errors
    /// When a step fails; what a person needs to find the cause is printed.
    pub(crate) fn run(&self) -> Result<Summary> {
        self.shards().inspect_err(|_| self.explain())
    }

    fn set_up(&self) -> Result<()> {
        let Self {
            namespace, secret, ..
        } = self;
        let progress = &self.workspace.progress;
        let kubernetes = &self.target.kubernetes;
        progress.say(format!("a namespace: {namespace}"));
        kubernetes.kubectl(&["create", "namespace", namespace])?;
        // For the operator a token is its Secret's name and key. It cannot know that the
        // Discord of this run is a new one.
        progress.say(format!(
            "the bot's token: Secret {secret} (a new name for each run, as a new queue waits \
             30 s before it uses a token that another queue used less than a minute ago)"
        ));
        let create = ["create", "secret", "generic", secret];
        let token = "--from-literal=token=demo.token-of-no-bot";
        self.kubectl(&[&create[..], &[token]].concat())?;
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
        kubernetes.apply(self.namespace, &self.queue()?)?;
        let queue = format!("gatewayqueue/{QUEUE}");
        let waiting = ["wait", "--for=condition=Ready", &queue, "--timeout=90s"];
        self.kubectl(&waiting)
            .context("waiting for the GatewayQueue to be Ready")?;
        print!("\n{}\n", self.kubectl(&["get", "gwq"])?);

        progress.say(format!("a bot: {SHARDS} shards in four pods, all at once"));
        kubernetes.apply(self.namespace, &self.manifest("e2e/manifests/bot.yaml")?)?;
        let record = watch::until_ready(kubernetes, self.namespace, SHARDS)?;
        Ok(Summary::of(&record, SHARDS, BUCKETS, SPACING))
    }

    /// The example, changed as a user would change it, with kubectl's own means.
    fn queue(&self) -> Result<String> {
        let example = self.workspace.root.join("examples/minimal.yaml");
        let api = format!("http://fake-discord.{}.svc:8080/api/v10", self.namespace);
        let spec = json!({"discordApi": api, "tokenSecretRef": {"name": self.secret}});
        let patch = json!({ "spec": spec }).to_string();
        let example = example.display().to_string();
        let patching = ["patch", "--local", "--filename", &example];
        let how = ["--type", "merge", "--patch", &patch, "--output", "yaml"];
        let kubernetes = &self.target.kubernetes;
        kubernetes.kubectl(&[&patching[..], &how].concat())
    }

    /// A manifest with the image and the Secret of this run.
    fn manifest(&self, path: &str) -> Result<String> {
        let mut text = target::read(self.workspace, path)?;
        let image = self.target.reference("gateway-queue-e2e")?;
        let secret = |name: &str| format!("name: {name}\n                  key: token");
        for (from, to) in [
            (IMAGE.to_owned(), image),
            (secret(QUEUE), secret(&self.secret)),
        ] {
            if !text.contains(&from) {
                bail!("{path} does not contain {from:?}, which is to be replaced");
            }
            text = text.replace(&from, &to);
        }
        Ok(text)
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let within = ["--namespace", self.namespace];
        let kubernetes = &self.target.kubernetes;
        kubernetes.kubectl(&[&within[..], arguments].concat())
    }

    fn explain(&self) {
        failure::tell(&self.target.kubernetes, self.namespace);
    }
}

/// Deletes the namespace of an earlier run once its pods are gone, the shards first.
/// The deletion of a namespace waits for half of the longest grace period of its pods,
/// which is five minutes for a queue. And a queue does not end while shards that have
/// lost their Discord ask it again and again.
fn delete_earlier(progress: &Progress, kubernetes: &Kubernetes, namespace: &str) -> Result<()> {
    let get = ["get", "namespace", namespace, "--ignore-not-found"];
    let found = kubernetes.kubectl(&[&get[..], &["--output=name"]].concat())?;
    if found.trim().is_empty() {
        return Ok(());
    }
    progress.say(format!(
        "deleting the namespace {namespace} of an earlier run"
    ));
    let within = ["--namespace", namespace];
    let delete = [&within[..], &["delete", "--ignore-not-found"]].concat();
    let gone = [
        &within[..],
        &["wait", "--for=delete", "--timeout=30s", "pod"],
    ]
    .concat();
    let shards = ["statefulset/bot"];
    let others = ["gatewayqueue/my-bot", "deployment/fake-discord"];
    for (objects, pods) in [
        (&shards[..], "--selector=app.kubernetes.io/name=bot"),
        (&others, "--all"),
    ] {
        // If these fail, the deletion of the namespace takes longer.
        let _ = kubernetes.kubectl(&[&delete[..], objects].concat());
        let _ = kubernetes.kubectl(&[&gone[..], &[pods]].concat());
    }
    kubernetes.kubectl(&["delete", "namespace", namespace, "--ignore-not-found"])?;
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
