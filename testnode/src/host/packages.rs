//! Debian packages that the node and the tests need.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::process::{self, Logged};
use super::{Progress, interrupt};

/// The name of a Debian package, and a file of it. The package counts as installed if the
/// file is in PATH or in a folder of network plugins, wherever it came from.
pub type Package = (&'static str, &'static str);

/// What the node needs.
pub(crate) const NODE: &[Package] = &[
    ("containerd", "containerd"),
    ("containernetworking-plugins", NETWORK_PLUGIN),
    ("iproute2", "ip"),
    ("iptables", "iptables"),
    ("mount", "mount"),
    ("runc", "runc"),
    ("util-linux", "nsenter"),
];

/// The network plugin that the node uses.
const NETWORK_PLUGIN: &str = "ptp";

/// Debian's folder of network plugins, then that of most other distributions.
const PLUGIN_FOLDERS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

/// Installs those of `packages` that are missing.
///
/// # Errors
/// If a package is missing and this is not root, or not a Debian: with the command to
/// run. If apt-get fails: with the end of its log.
pub fn ensure(progress: &Progress, packages: &[Package], log: &Path) -> Result<()> {
    let missing = packages.iter().filter(|(_, file)| !is_installed(file));
    let missing: Vec<&str> = missing.map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    let by_hand = format!("apt-get update && apt-get install -y --no-install-recommends {names}");
    if process::find("apt-get").is_none() {
        bail!(
            "missing: {names}, and there is no apt-get. On Debian or Ubuntu, run:\n    {by_hand}"
        );
    }
    if !rustix::process::geteuid().is_root() {
        bail!("missing: {names}. Only root can install packages. Run:\n    sudo sh -c '{by_hand}'");
    }
    progress.print(format!("installing {names}"));
    let had_service = has_containerd_service();
    // Old lists name versions that the mirror no longer has. If this fails, the lists may
    // still be good enough.
    let update_log = log.with_extension("update.log");
    let _ = apt_get(progress, &["update"], &update_log, None);
    interrupt::check()?;
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    install.extend(["-o", "DPkg::Lock::Timeout=120"]);
    install.extend(missing);
    apt_get(progress, &install, log, None)?;
    if !had_service && has_containerd_service() {
        // The package starts a containerd for the whole machine. The node runs its own.
        let disable = ["disable", "--now", "containerd.service"];
        process::output(process::command("systemctl").args(disable))?;
    }
    interrupt::check()
}

/// Runs apt-get to its end even if the command is interrupted.
pub fn apt_get(
    progress: &Progress,
    arguments: &[&str],
    log: &Path,
    folder: Option<&Path>,
) -> Result<()> {
    let mut apt_get = process::command("apt-get");
    apt_get
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive");
    if let Some(folder) = folder {
        apt_get.current_dir(folder);
    }
    Logged::uninterrupted("installing packages", log).run(progress, &apt_get)
}

/// Returns the folder of the network plugins.
pub(crate) fn network_plugins() -> Result<PathBuf> {
    let mut folders = PLUGIN_FOLDERS.iter().map(PathBuf::from);
    let found = folders.find(|folder| folder.join(NETWORK_PLUGIN).is_file());
    let all = PLUGIN_FOLDERS.join(" and ");
    found.with_context(|| format!("no network plugin {NETWORK_PLUGIN} in {all}"))
}

fn is_installed(file: &str) -> bool {
    let mut plugins = PLUGIN_FOLDERS
        .iter()
        .map(|folder| Path::new(folder).join(file));
    process::find(file).is_some() || plugins.any(|plugin| plugin.is_file())
}

fn has_containerd_service() -> bool {
    let is_active = ["is-active", "containerd.service"];
    Path::new("/run/systemd/system").exists()
        && process::output(process::command("systemctl").args(is_active)).is_ok()
}
