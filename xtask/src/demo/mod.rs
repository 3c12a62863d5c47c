//! `cargo xtask demo`: the main job, from nothing to shards that identify one
//! after the other.

mod failure;
mod report;
mod watch;

use std::time::Duration;

use anyhow::{Context, Result, bail};

use self::report::Summary;
use crate::install;
use crate::kubernetes::{Kubernetes, wait_for};
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
    install::operator(workspace, &target)?;
    let namespace = "gateway-queue-demo";
    let summary = scenario(workspace, &target, namespace)?;
    look_around(&target, namespace);
    println!("\n{}", summary.line());
    summary.verdict()
}

/// The demo on a cluster that has the operator, in a namespace of its own that
/// is made anew.
///
/// # Errors
/// When a step fails; what a person needs to find the cause is printed.
pub(crate) fn scenario(workspace: &Workspace, target: &Target, namespace: &str) -> Result<Summary> {
    play(workspace, target, namespace).inspect_err(|_| failure::tell(&target.kubernetes, namespace))
}

fn play(workspace: &Workspace, target: &Target, namespace: &str) -> Result<Summary> {
    let progress = &workspace.progress;
    let kubernetes = &target.kubernetes;
    let image = target.reference("gateway-queue-e2e")?;
    let manifest = |path: &str| -> Result<String> {
        let text = target::read(workspace, path)?;
        if !text.contains(IMAGE) {
            bail!("{path} does not name the image {IMAGE}, which is to be replaced");
        }
        Ok(text.replace(IMAGE, &image))
    };

    progress.say(format!("a namespace: {namespace}"));
    kubernetes.kubectl(&["delete", "namespace", namespace, "--ignore-not-found"])?;
    kubernetes.kubectl(&["create", "namespace", namespace])?;
    let secret = ["create", "secret", "generic", QUEUE];
    let token = "--from-literal=token=demo.token-of-no-bot";
    kubernetes.kubectl(&[&["--namespace", namespace], &secret[..], &[token]].concat())?;

    progress.say("a fake Discord that enforces the rules, with max_concurrency 2");
    kubernetes.apply(namespace, &manifest("e2e/manifests/fake-discord.yaml")?)?;
    rolled_out(kubernetes, namespace, "deployment/fake-discord")?;

    progress
        .say("kubectl apply: the GatewayQueue of examples/minimal.yaml, pointed at that Discord");
    kubernetes.apply(namespace, &queue(workspace, kubernetes, namespace)?)?;
    let waiting = [
        "wait",
        "--for=condition=Ready",
        "gatewayqueue/my-bot",
        "--timeout=90s",
    ];
    kubernetes
        .kubectl(&[&["--namespace", namespace], &waiting[..]].concat())
        .context("waiting for the GatewayQueue to be Ready")?;
    print!(
        "\n{}\n",
        kubernetes.kubectl(&["--namespace", namespace, "get", "gwq"])?
    );

    progress.say(format!("a bot: {SHARDS} shards in four pods, all at once"));
    kubernetes.apply(namespace, &manifest("e2e/manifests/bot.yaml")?)?;
    let record = watch::until_ready(kubernetes, namespace, SHARDS)?;
    Ok(Summary::of(&record, SHARDS, BUCKETS, SPACING))
}

/// The example, changed as a user would change it, with kubectl's own means.
fn queue(workspace: &Workspace, kubernetes: &Kubernetes, namespace: &str) -> Result<String> {
    let example = workspace.root.join("examples/minimal.yaml");
    let api = format!("http://fake-discord.{namespace}.svc:8080/api/v10");
    let patch = serde_json::json!({"spec": {"discordApi": api}}).to_string();
    let example = example.display().to_string();
    let patching = [
        "patch",
        "--local",
        "--filename",
        &example,
        "--type",
        "merge",
    ];
    kubernetes.kubectl(&[&patching[..], &["--patch", &patch, "--output", "yaml"]].concat())
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
