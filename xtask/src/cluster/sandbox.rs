//! The box that holds the node: namespaces for its processes, mounts and network.
//!
//! All mounts that the kubelet and containerd make are in the node's own mount
//! namespace, and all processes in its own process namespace. So when the first
//! process ends, however it ends, the kernel ends the rest and no mount remains.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::components::{Component, Origin};
use super::layout::{DISK, LOGS, MARK, RUN};
use super::network;
use super::processes::{self, Init};
use crate::process;
use crate::programs::Programs;

/// Folders whose places are fixed in the programs. In the box they are folders
/// of ours; outside, only an empty folder to mount on may be new.
pub(crate) const PLACES: [&str; 5] = [
    "/run/containerd",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
];

/// What the kubelet would set for the whole machine. In the box it finds them
/// as it wants them, in files of ours, and changes nothing.
const KERNEL_SETTINGS: [(&str, &str); 6] = [
    ("kernel/keys/root_maxbytes", "25000000"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
];

/// Runs inside the new namespaces: lays our folders over the fixed places, then
/// becomes the first process. Arguments: ours and theirs in turn, `--`, the program.
const ENTER: &str = "set -eu
while [ \"$1\" != -- ]; do mount --bind \"$1\" \"$2\"; shift 2; done
shift
exec \"$@\"";

/// Starts a program of the box and leaves it to the first process.
const LEAVE: &str = "log=$1; shift; setsid \"$@\" </dev/null >>\"$log\" 2>&1 &";

/// How long the box may take to open.
const OPENING: Duration = Duration::from_secs(10);

/// All that makes one box differ from another.
pub(crate) fn recipe() -> impl std::fmt::Debug {
    (PLACES, KERNEL_SETTINGS, ENTER, LEAVE)
}

/// Opens an empty box.
///
/// # Errors
/// When namespaces or mounts are refused.
pub(crate) fn open(programs: &Programs) -> Result<Init> {
    let mut mounts = Vec::new();
    for place in PLACES {
        let ours = format!("{DISK}/places{place}");
        create(&ours)?;
        create(place)?;
        mounts.extend([ours, place.to_owned()]);
    }
    for (name, value) in KERNEL_SETTINGS {
        let (ours, theirs) = (format!("{RUN}/kernel/{name}"), format!("/proc/sys/{name}"));
        if Path::new(&theirs).exists() {
            crate::files::replace(ours.as_ref(), value.as_bytes(), 0o644)?;
            mounts.extend([ours, theirs]);
        }
    }
    let log = format!("{LOGS}/init.log");
    let output = fs::File::create(&log).with_context(|| format!("creating {log}"))?;
    let same = output.try_clone().context("sharing a log file")?;
    let mut enter = process::command("setsid");
    enter
        .args([
            "--fork",
            "nsenter",
            &format!("--net={}", network::namespace()),
        ])
        .args([
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--mount-proc",
            "sh",
            "-c",
            ENTER,
            "sh",
        ])
        .args(&mounts)
        .arg("--")
        .arg(programs.path("pause"))
        .arg(MARK);
    clean(&mut enter)
        .stdin(std::process::Stdio::null())
        .stdout(output)
        .stderr(same);
    let status = enter.status().context("starting setsid")?;
    if !status.success() {
        bail!(
            "opening the node's namespaces failed ({status}); {}",
            process::tail(log.as_ref())
        );
    }
    let asked = Instant::now();
    while asked.elapsed() < OPENING {
        if let Some(init) = processes::init() {
            return Ok(init);
        }
        // Not given up early: a process that becomes another program has no
        // command line for a moment, and cannot be told.
        std::thread::sleep(Duration::from_millis(10));
    }
    bail!(
        "the node's first process did not start; {}",
        process::tail(log.as_ref())
    )
}

/// Starts one program in the box. It runs on after us.
///
/// # Errors
/// When the box cannot be entered.
pub(crate) fn start(init: &Init, programs: &Programs, component: &Component) -> Result<()> {
    let mut leave = process::command("nsenter");
    leave
        .args([
            "--target",
            &init.identity.pid.to_string(),
            "--mount",
            "--net",
            "--pid",
        ])
        .args(["--", "sh", "-c", LEAVE, "sh", &log(component.name)])
        .arg(binary(programs, component))
        .args(&component.arguments);
    process::output(clean(&mut leave)).with_context(|| format!("starting {}", component.name))?;
    Ok(())
}

/// Those of `components` that do not run in the box.
pub(crate) fn missing(
    init: &Init,
    programs: &Programs,
    components: &[Component],
) -> Vec<&'static str> {
    let family = init.family();
    // For a moment a program is still an argument of the shell that starts it.
    let runs = |component: &Component| {
        let binary = binary(programs, component);
        family.iter().flatten().any(|word| *word == binary)
    };
    components
        .iter()
        .filter(|component| !runs(component))
        .map(|component| component.name)
        .collect()
}

/// The log of one of the node's programs.
pub(crate) fn log(name: &str) -> String {
    format!("{LOGS}/{name}.log")
}

fn binary(programs: &Programs, component: &Component) -> String {
    match component.origin {
        Origin::Built => programs.path(component.name).display().to_string(),
        Origin::Installed => component.name.to_owned(),
    }
}

fn create(folder: &str) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("creating {folder}"))
}

/// The node gets nothing of the user's environment: no proxy, no locale, no token.
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
