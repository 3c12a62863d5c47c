//! What the node and the tests need from the operating system, installed when it is missing.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::process::{self, Logged, WhenStopped};
use crate::progress::Progress;

/// A package of Debian, and how to see that it is there (whoever installed it).
#[derive(Debug)]
pub(crate) struct Package {
    name: &'static str,
    proof: Proof,
}

#[derive(Debug)]
enum Proof {
    /// A program that the shell finds.
    Program(&'static str),
    /// A plugin in one of the folders where distributions put them.
    NetworkPlugin(&'static str),
}

/// What `cluster up` needs.
pub(crate) const NODE: &[Package] = &[
    Package {
        name: "containerd",
        proof: Proof::Program("containerd"),
    },
    Package {
        name: "containernetworking-plugins",
        proof: Proof::NetworkPlugin("ptp"),
    },
    Package {
        name: "iproute2",
        proof: Proof::Program("ip"),
    },
    Package {
        name: "iptables",
        proof: Proof::Program("iptables"),
    },
    Package {
        name: "mount",
        proof: Proof::Program("mount"),
    },
    Package {
        name: "runc",
        proof: Proof::Program("runc"),
    },
    Package {
        name: "util-linux",
        proof: Proof::Program("nsenter"),
    },
];

/// What `image --push` needs.
pub(crate) const PUSH: &[Package] = &[Package {
    name: "skopeo",
    proof: Proof::Program("skopeo"),
}];

/// What the tests of the queue's page need.
pub(crate) const BROWSER: &[Package] = &[
    Package {
        name: "chromium",
        proof: Proof::Program("chromium"),
    },
    Package {
        name: "chromium-driver",
        proof: Proof::Program("chromedriver"),
    },
];

/// Where the network plugins are: Debian's folder, then everybody else's.
const PLUGIN_FOLDERS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

/// Installs those of `packages` that are missing.
///
/// # Errors
/// When something is missing and this is not root, or not a Debian: with the
/// line to type. When apt-get fails: with the end of its log.
pub(crate) fn ensure(progress: &Progress, packages: &[Package], log: &Path) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .filter(|package| !package.is_there())
        .map(|package| package.name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    let by_hand = format!("apt-get update && apt-get install -y --no-install-recommends {names}");
    if process::find("apt-get").is_none() {
        bail!(
            "missing: {names}. There is no apt-get here to install them; on Debian or Ubuntu this would do:\n    {by_hand}"
        );
    }
    if !rustix::process::geteuid().is_root() {
        bail!("missing: {names}. Only root can install them; type:\n    sudo sh -c '{by_hand}'");
    }
    progress.say(format!("installing {names}"));
    let started_before = service_runs();
    // Old lists name versions that the mirror no longer has. A failure here may
    // still leave lists that are good enough: the install tells.
    let _ = Logged {
        doing: "reading the package lists",
        log: log.with_extension("update.log"),
        when_stopped: WhenStopped::Finish,
    }
    .run(progress, process::command("apt-get").arg("update"));
    crate::interrupt::check()?;
    let mut install = process::command("apt-get");
    install
        .args([
            "install",
            "-y",
            "--no-install-recommends",
            "-o",
            "DPkg::Lock::Timeout=120",
        ])
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive");
    Logged {
        doing: "installing packages",
        log: log.to_owned(),
        when_stopped: WhenStopped::Finish,
    }
    .run(progress, &install)?;
    if !started_before && service_runs() {
        // The package starts a containerd for the whole machine. The node runs
        // its own, and nobody asked for another.
        process::output(process::command("systemctl").args([
            "disable",
            "--now",
            "containerd.service",
        ]))?;
    }
    crate::interrupt::check()
}

/// The folder that holds the network plugins.
///
/// # Errors
/// When there is none.
pub(crate) fn network_plugins() -> Result<PathBuf> {
    match PLUGIN_FOLDERS
        .iter()
        .map(PathBuf::from)
        .find(|folder| folder.join("ptp").is_file())
    {
        Some(folder) => Ok(folder),
        None => bail!(
            "the network plugin ptp is in none of {}",
            PLUGIN_FOLDERS.join(", ")
        ),
    }
}

fn service_runs() -> bool {
    Path::new("/run/systemd/system").exists()
        && process::output(process::command("systemctl").args(["is-active", "containerd.service"]))
            .is_ok()
}

impl Package {
    fn is_there(&self) -> bool {
        match self.proof {
            Proof::Program(name) => process::find(name).is_some(),
            Proof::NetworkPlugin(name) => PLUGIN_FOLDERS
                .iter()
                .any(|folder| Path::new(folder).join(name).is_file()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_there_needs_no_package() {
        assert!(
            Package {
                name: "dash",
                proof: Proof::Program("sh")
            }
            .is_there()
        );
        assert!(
            !Package {
                name: "none",
                proof: Proof::Program("no-such-program-here")
            }
            .is_there()
        );
    }
}
