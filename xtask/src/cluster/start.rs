//! Starting the node, step by step, each waited for until it serves.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::components::{self, Component, File, Machine};
use super::layout::{KUBECONFIG, LOGS, NODE_NAME, RUN};
use super::processes::Init;
use super::state::{self, State};
use super::{certs, cleanup, dns, network, sandbox};
use crate::archive::{self, Contents};
use crate::digest::sha256;
use crate::files;
use crate::interrupt;
use crate::packages;
use crate::process;
use crate::programs::Programs;
use crate::progress::Progress;

/// How long a step may take; on a slow machine that is busy otherwise.
const LIMIT: Duration = Duration::from_secs(90);
/// How long a node that was up may take to answer.
const BUSY: Duration = Duration::from_secs(15);
/// How often a step is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What a start would do, known before it does anything.
#[derive(Debug)]
pub(crate) struct Plan {
    files: Vec<File>,
    pause: PathBuf,
    /// A hash of all that the node is made of: another one is another node.
    pub(crate) version: String,
}

/// Works out the plan for this machine.
///
/// # Errors
/// When there are no network plugins, or the pause image cannot be written.
pub(crate) fn plan(programs: &Programs) -> Result<Plan> {
    const PAUSE: &str = "gateway-queue-node/pause";
    let pause = programs.path("pause.tar");
    let binaries = [("/pause".to_owned(), programs.path("pause"))];
    let tag = archive::write(
        &Contents {
            name: PAUSE,
            binaries: &binaries,
            entrypoint: Some("/pause"),
        },
        &pause,
    )?;
    let files = components::files(&Machine {
        network_plugins: packages::network_plugins()?.display().to_string(),
        pause_image: format!("{}:{tag}", super::full_name(PAUSE)),
        snapshotter: snapshotter()?,
    });
    let parts = format!(
        "{} {:?} {files:?} {:?} {:?} {}",
        programs.key,
        components::all(),
        network::commands(),
        sandbox::recipe(),
        dns::manifest(),
    );
    Ok(Plan {
        files,
        pause,
        version: sha256(parts.as_bytes())[..16].to_owned(),
    })
}

/// Starts the node on a machine that has none.
///
/// # Errors
/// When a step fails or takes too long: with the end of the log that tells why.
pub(crate) fn node(
    progress: &Progress,
    programs: &Programs,
    plan: &Plan,
    checkout: &str,
) -> Result<()> {
    progress.say("starting the node: network, namespaces, certificates");
    // The logs of the start before would only mislead.
    let _ = fs::remove_dir_all(LOGS);
    for folder in [LOGS, RUN] {
        fs::create_dir_all(folder).with_context(|| format!("creating {folder}"))?;
    }
    network::create()?;
    cleanup::make_cgroups()?;
    certs::issue(programs)?;
    for File { path, text } in &plan.files {
        files::replace(path.as_ref(), text.as_bytes(), 0o644)?;
    }
    let init = sandbox::open(programs)?;
    let mut state = State {
        checkout: checkout.to_owned(),
        version: plan.version.clone(),
        init: init.identity,
        ready: false,
    };
    state::write(&state)?;
    let mut start = Start {
        programs,
        init,
        running: Vec::new(),
    };

    progress.say("starting etcd, containerd and the API server");
    start.run(components::foundation())?;
    start.run([components::api_server()])?;
    start.wait("containerd", || super::containerd(&["version"]).map(|_| ()))?;
    super::import(&plan.pause)?;
    start.wait("kube-apiserver", || api_is_ready(programs))?;

    progress.say("starting kubelet, controller manager, scheduler, kube-proxy and DNS");
    start.run(components::clients())?;
    start.wait("kube-apiserver", || {
        process::feed(
            kubectl(programs).args(["apply", "--filename=-"]),
            &dns::manifest(),
        )
    })?;
    start.wait("kubelet", || node_is_ready(programs))?;
    start.wait("kube-controller-manager", || has_service_account(programs))?;
    start.wait("coredns", dns_answers)?;
    state.ready = true;
    state::write(&state)
}

/// Why a node whose programs all run does not serve, if so. One that is merely
/// busy gets time to answer: it may hold someone's work.
pub(crate) fn sick(programs: &Programs) -> Option<String> {
    let began = Instant::now();
    loop {
        let checks = [api_is_ready, node_is_ready, |_: &Programs| dns_answers()];
        let reason = checks.iter().find_map(|check| check(programs).err())?;
        if began.elapsed() > BUSY || interrupt::requested() {
            return Some(reason.to_string());
        }
        std::thread::sleep(LOOK);
    }
}

/// The programs that were started so far.
struct Start<'a> {
    programs: &'a Programs,
    init: Init,
    running: Vec<Component>,
}

impl Start<'_> {
    fn run(&mut self, components: impl IntoIterator<Item = Component>) -> Result<()> {
        for component in components {
            sandbox::start(&self.init, self.programs, &component)?;
            self.running.push(component);
        }
        Ok(())
    }

    /// Waits until `check` is content. `program` is the one to blame when it
    /// takes too long; one that ends is to blame at once.
    fn wait(&self, program: &str, mut check: impl FnMut() -> Result<()>) -> Result<()> {
        let began = Instant::now();
        let mut suspected = None;
        loop {
            interrupt::check()?;
            let missing = sandbox::missing(&self.init, self.programs, &self.running);
            // A process has no command line for a moment while it becomes another
            // program, so only who is missing twice has ended.
            if let Some(ended) = missing.iter().find(|name| suspected == Some(**name)) {
                bail!(
                    "{ended} ended; {}",
                    process::tail(sandbox::log(ended).as_ref())
                );
            }
            suspected = missing.first().copied();
            let Err(reason) = check() else { return Ok(()) };
            if began.elapsed() > LIMIT {
                let tail = process::tail(sandbox::log(program).as_ref());
                bail!(
                    "{program} is not ready after {} s: {reason:#}; {tail}",
                    LIMIT.as_secs()
                );
            }
            std::thread::sleep(LOOK);
        }
    }
}

fn kubectl(programs: &Programs) -> Command {
    let mut kubectl = Command::new(programs.kubectl());
    kubectl
        .arg(format!("--kubeconfig={KUBECONFIG}"))
        .arg(format!("--cache-dir={RUN}/kubectl"))
        .arg("--request-timeout=3s");
    kubectl
}

fn api_is_ready(programs: &Programs) -> Result<()> {
    let asked = process::output(kubectl(programs).args(["get", "--raw=/readyz"]));
    asked.map(|_| ()).context("the API server is not ready")
}

fn node_is_ready(programs: &Programs) -> Result<()> {
    const READY: &str = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}/{.spec.taints}";
    let said =
        process::output(kubectl(programs).args(["get", "node", NODE_NAME, "--output", READY]))?;
    // The taint goes a moment after the condition comes; until then no pod starts.
    if said != "True/" {
        bail!("the Kubernetes node is not Ready (condition and taints: {said})");
    }
    Ok(())
}

fn has_service_account(programs: &Programs) -> Result<()> {
    process::output(kubectl(programs).args(["get", "serviceaccount", "default"])).map(|_| ())
}

fn dns_answers() -> Result<()> {
    if !dns::answers() {
        bail!("the cluster's DNS does not answer");
    }
    Ok(())
}

/// Layers are stacked by the kernel, unless the disk itself is made that way:
/// then they are copied.
fn snapshotter() -> Result<&'static str> {
    let kind = process::output(process::command("stat").args([
        "--file-system",
        "--format=%T",
        "/var/lib",
    ]))?;
    Ok(if kind.trim() == "overlayfs" {
        "native"
    } else {
        "overlayfs"
    })
}
