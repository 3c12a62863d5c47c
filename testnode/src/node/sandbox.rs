//! The sandbox of the node: namespaces for its processes, mounts and network.
//!
//! All mounts of the kubelet and containerd are in the node's mount namespace, and all
//! processes in its process namespace. When the first process ends, for whatever reason,
//! the kernel ends the others, and no mount remains.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::components::Component;
use super::layout::{DISK, LOGS, MARK, RUN};
use super::network;
use super::processes::{self, Init};
use crate::host::{files, process};
use crate::programs::Programs;

/// Folders whose paths are fixed in the programs. In the sandbox, folders of the node are
/// mounted on them; outside, at most an empty folder to mount on is created.
pub(crate) const PLACES: [&str; 5] = [
    "/run/containerd",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
];

/// Settings that the kubelet would change for the whole machine. In the sandbox they are
/// files of the node with the wanted values, so it changes nothing.
const KERNEL_SETTINGS: [(&str, &str); 6] = [
    ("kernel/keys/root_maxbytes", "25000000"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
];

/// Runs in the new namespaces: mounts the node's folders, then becomes the first process.
/// Arguments: pairs of source and mount point, `--`, the program.
const ENTER: &str = "set -eu
while [ \"$1\" != -- ]; do mount --bind \"$1\" \"$2\"; shift 2; done
shift
exec \"$@\"";

/// Starts a program in the background, as a child of the first process.
const LEAVE: &str = "log=$1; shift; setsid \"$@\" </dev/null >>\"$log\" 2>&1 &";

/// How long the first process may take to start.
const START: Duration = Duration::from_secs(10);

/// Returns everything by which two sandboxes can differ.
pub(crate) fn recipe() -> impl std::fmt::Debug {
    (PLACES, KERNEL_SETTINGS, ENTER, LEAVE)
}

/// Creates an empty sandbox.
pub(crate) fn create(programs: &Programs) -> Result<Init> {
    let mut mounts = Vec::new();
    for place in PLACES {
        let source = format!("{DISK}/places{place}");
        files::create_folder(&source)?;
        files::create_folder(place)?;
        mounts.extend([source, place.to_owned()]);
    }
    for (name, value) in KERNEL_SETTINGS {
        let (source, place) = (format!("{RUN}/kernel/{name}"), format!("/proc/sys/{name}"));
        if Path::new(&place).exists() {
            files::replace(source.as_ref(), value.as_bytes(), 0o644)?;
            mounts.extend([source, place]);
        }
    }
    let log = format!("{LOGS}/init.log");
    let output = fs::File::create(&log).with_context(|| format!("creating {log}"))?;
    let same = output.try_clone().context("sharing a log file")?;
    let network = format!("--net={}", network::namespace());
    let mut enter = process::command("setsid");
    enter
        .args(["--fork", "nsenter", &network])
        .args(["unshare", "--mount", "--pid", "--fork", "--mount-proc"])
        .args(["sh", "-c", ENTER, "sh"])
        .args(&mounts)
        .arg("--")
        .arg(programs.path("pause"))
        .arg(MARK);
    clean(&mut enter)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(same);
    let status = enter.status().context("starting setsid")?;
    let tail = || process::tail(log.as_ref());
    if !status.success() {
        bail!(
            "creating the node's namespaces failed ({status}); {}",
            tail()
        );
    }
    let started = Instant::now();
    while started.elapsed() < START {
        if let Some(init) = processes::init() {
            return Ok(init);
        }
        // The process may exist: it has no command line while it becomes another program.
        thread::sleep(Duration::from_millis(10));
    }
    bail!("the node's first process did not start; {}", tail())
}

/// Starts one program in the sandbox, where it keeps running.
pub(crate) fn start(init: &Init, programs: &Programs, component: &Component) -> Result<()> {
    let mut leave = process::command("nsenter");
    leave
        .args(["--target", &init.identity.pid.to_string()])
        .args(["--mount", "--net", "--pid"])
        .args(["--", "sh", "-c", LEAVE, "sh", &log(component.name)])
        .arg(binary(programs, component))
        .args(&component.arguments);
    process::output(clean(&mut leave)).with_context(|| format!("starting {}", component.name))?;
    Ok(())
}

/// Returns the names of those `components` that do not run in the sandbox.
pub(crate) fn missing(
    init: &Init,
    programs: &Programs,
    components: &[Component],
) -> Vec<&'static str> {
    let family = init.family();
    // During its start, a program is an argument of the shell.
    let runs = |component: &&Component| {
        let binary = binary(programs, component);
        family.iter().flatten().any(|word| *word == binary)
    };
    let missing = components.iter().filter(|component| !runs(component));
    missing.map(|component| component.name).collect()
}

/// Returns the path of a program's log.
pub(crate) fn log(name: &str) -> String {
    format!("{LOGS}/{name}.log")
}

/// Returns the program's path: in the built programs, or else a program of the system.
fn binary(programs: &Programs, component: &Component) -> String {
    let built = programs.path(component.name);
    if built.is_file() {
        built.display().to_string()
    } else {
        component.name.to_owned()
    }
}

/// Removes the user's environment: no proxy, locale or token reaches the node.
fn clean(command: &mut Command) -> &mut Command {
    command
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("HOME", "/root")
        .current_dir("/")
}
