//! Starting the node step by step.

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::components::{self, Component, File, Machine};
use super::containerd;
use super::layout::{KUBECONFIG, LOGS, NODE_NAME, RUN};
use super::processes::Init;
use super::state::{self, State};
use super::{certs, cleanup, dns, network, sandbox};
use crate::NetworkSettings;
use crate::host::files::{self, sha256};
use crate::host::{Progress, interrupt, packages, process};
use crate::image::Image;
use crate::programs::Programs;

/// How long a step may take, on a slow and busy machine.
const LIMIT: Duration = Duration::from_secs(90);
/// How long a running node may take to answer.
const ANSWER: Duration = Duration::from_secs(15);
/// How often a step is checked.
const POLL: Duration = Duration::from_millis(100);

/// The node that a start would create.
#[derive(Debug)]
pub(crate) struct Plan {
    settings: NetworkSettings,
    files: Vec<File>,
    pause: PathBuf,
    /// A hash of everything that the node consists of.
    pub(crate) version: String,
}

/// Plans the node for this machine.
pub(crate) fn plan(programs: &Programs, settings: &NetworkSettings) -> Result<Plan> {
    let pause = Image::write(
        "gateway-queue-node/pause",
        &[("/pause".to_owned(), programs.path("pause"))],
        Some("/pause"),
        &programs.path("pause.tar"),
    )?;
    let machine = Machine {
        network_plugins: packages::network_plugins()?.display().to_string(),
        pause_image: containerd::full_name(&pause.reference()),
        snapshotter: snapshotter()?,
    };
    let files = components::files(&machine, settings);
    let parts = format!(
        "{} {files:?} {settings:?} {:?} {:?} {:?} {}",
        programs.key,
        components::all(settings),
        network::commands(settings),
        sandbox::recipe(),
        dns::manifest(settings),
    );
    Ok(Plan {
        settings: *settings,
        files,
        pause: pause.archive,
        version: sha256(parts.as_bytes())[..16].to_owned(),
    })
}

/// Starts the node on a machine without one.
pub(crate) fn node(
    progress: &Progress,
    programs: &Programs,
    plan: &Plan,
    checkout: &str,
) -> Result<()> {
    let settings = &plan.settings;
    progress.print("starting the node: network, namespaces, certificates");
    // Logs of an earlier start would mislead.
    let _ = files::remove_folder(LOGS);
    files::create_folder(LOGS)?;
    files::create_folder(RUN)?;
    network::create(settings)?;
    cleanup::create_cgroups()?;
    certs::issue(programs, settings)?;
    for File { path, text } in &plan.files {
        files::replace(path.as_ref(), text.as_bytes(), 0o644)?;
    }
    let init = sandbox::create(programs)?;
    let mut state = State {
        checkout: checkout.to_owned(),
        version: plan.version.clone(),
        init: init.identity,
        is_ready: false,
    };
    state::write(&state)?;
    let mut start = Start {
        programs,
        init,
        running: Vec::new(),
    };

    progress.print("starting etcd, containerd and the API server");
    start.run(components::foundation())?;
    start.run([components::api_server(settings)])?;
    start.wait("containerd", || containerd::run(&["version"]).map(drop))?;
    containerd::import(&plan.pause)?;
    start.wait("kube-apiserver", || check_api_server(programs))?;

    progress.print("starting kubelet, controller manager, scheduler, kube-proxy and DNS");
    start.run(components::clients(settings))?;
    start.wait("kube-apiserver", || {
        let mut apply = kubectl(programs, &["apply", "--filename=-"]);
        process::feed(&mut apply, &dns::manifest(settings))
    })?;
    start.wait("kubelet", || check_node(programs))?;
    start.wait("kube-controller-manager", || {
        process::output(&mut kubectl(
            programs,
            &["get", "serviceaccount", "default"],
        ))
        .map(drop)
    })?;
    start.wait("coredns", || dns::check(settings))?;
    state.is_ready = true;
    state::write(&state)
}

/// Returns why a node whose programs all run does not serve, if it does not. A busy node
/// gets time to answer.
pub(crate) fn failure(programs: &Programs, settings: &NetworkSettings) -> Option<String> {
    let started = Instant::now();
    loop {
        let serves = check_api_server(programs)
            .and_then(|()| check_node(programs))
            .and_then(|()| dns::check(settings));
        let reason = serves.err()?;
        if started.elapsed() > ANSWER || interrupt::is_requested() {
            return Some(format!("{reason:#}"));
        }
        thread::sleep(POLL);
    }
}

/// A start in progress.
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

    /// Waits until `check` succeeds. The errors show the log of `program`, or of a program
    /// that exited.
    fn wait(&self, program: &str, mut check: impl FnMut() -> Result<()>) -> Result<()> {
        let tail = |program: &str| process::tail(sandbox::log(program).as_ref());
        let started = Instant::now();
        let mut suspected = None;
        loop {
            interrupt::check()?;
            let missing = sandbox::missing(&self.init, self.programs, &self.running);
            // Only a program that is missing twice has exited: it has no command line while
            // the shell becomes the program.
            if let Some(exited) = missing.iter().find(|name| suspected == Some(**name)) {
                bail!("{exited} exited; {}", tail(exited));
            }
            suspected = missing.first().copied();
            let Err(reason) = check() else { return Ok(()) };
            if started.elapsed() > LIMIT {
                let seconds = LIMIT.as_secs();
                let tail = tail(program);
                bail!("{program} is not ready after {seconds} s: {reason:#}; {tail}");
            }
            thread::sleep(POLL);
        }
    }
}

fn kubectl(programs: &Programs, arguments: &[&str]) -> Command {
    let mut kubectl = Command::new(programs.path("kubectl"));
    kubectl
        .arg(format!("--kubeconfig={KUBECONFIG}"))
        .arg(format!("--cache-dir={RUN}/kubectl"))
        .arg("--request-timeout=3s")
        .args(arguments);
    kubectl
}

fn check_api_server(programs: &Programs) -> Result<()> {
    let ready = process::output(&mut kubectl(programs, &["get", "--raw=/readyz"]));
    ready.map(drop).context("the API server is not ready")
}

fn check_node(programs: &Programs) -> Result<()> {
    const READY: &str = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}/{.spec.taints}";
    let get = ["get", "node", NODE_NAME, "--output", READY];
    let ready = process::output(&mut kubectl(programs, &get))?;
    // The taint is removed a moment after the condition is set; until then no pod starts.
    if ready != "True/" {
        bail!("the Kubernetes node is not Ready (condition and taints: {ready})");
    }
    Ok(())
}

/// Returns containerd's snapshotter for the machine's disk: overlayfs cannot be stacked on
/// itself, so there the layers are copied.
fn snapshotter() -> Result<&'static str> {
    let stat = ["--file-system", "--format=%T", "/var/lib"];
    let kind = process::output(process::command("stat").args(stat))?;
    let is_overlay = kind.trim() == "overlayfs";
    Ok(if is_overlay { "native" } else { "overlayfs" })
}
