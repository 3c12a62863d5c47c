//! Programs of a Debian package, without installing it: what installs Prometheus
//! also starts it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{self, Logged, WhenStopped};
use crate::workspace::Workspace;

/// promtool and prometheus.
#[derive(Clone, Debug)]
pub(crate) struct Prometheus {
    pub(crate) promtool: PathBuf,
    pub(crate) prometheus: PathBuf,
}

/// Finds them, or unpacks Debian's package into the cache.
///
/// # Errors
/// When they are not there and apt-get cannot download them.
pub(crate) fn prometheus(workspace: &Workspace) -> Result<Prometheus> {
    let (promtool, prometheus) = match (process::find("promtool"), process::find("prometheus")) {
        (Some(promtool), Some(prometheus)) => (promtool, prometheus),
        _ => {
            let programs = unpacked(workspace, "prometheus")?.join("usr/bin");
            (programs.join("promtool"), programs.join("prometheus"))
        }
    };
    Ok(Prometheus {
        promtool,
        prometheus,
    })
}

fn unpacked(workspace: &Workspace, package: &str) -> Result<PathBuf> {
    let Workspace {
        cache, progress, ..
    } = workspace;
    let folder = cache.join(format!("debian-{package}"));
    if folder.is_dir() {
        return Ok(folder);
    }
    if process::find("apt-get").is_none() || process::find("dpkg-deb").is_none() {
        bail!(
            "promtool and prometheus are not in PATH, and there is no apt-get here to get them; install Prometheus"
        );
    }
    progress.say(format!(
        "unpacking Debian's package {package} (it is not installed)"
    ));
    fs::create_dir_all(cache).with_context(|| format!("creating {}", cache.display()))?;
    let work = tempfile::Builder::new()
        .prefix(".unpacking-")
        .tempdir_in(cache)
        .context("creating a folder in the cache")?;
    let log = cache.join(format!("apt-{package}.log"));
    let mut download = process::command("apt-get");
    download
        .args(["download", package])
        .current_dir(work.path());
    let run = |log: PathBuf, command: &Command| {
        Logged {
            doing: "downloading a package",
            log,
            when_stopped: WhenStopped::Finish,
        }
        .run(progress, command)
    };
    if run(log.clone(), &download).is_err() {
        // Old lists name versions that the mirror no longer has, and new
        // machines have none.
        let update = log.with_extension("update.log");
        let mut lists = process::command("apt-get");
        lists.arg("update");
        run(update, &lists)?;
        run(log, &download)?;
    }
    let entries = fs::read_dir(work.path()).context("listing what was downloaded")?;
    let archive = entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|end| end == "deb"))
        .with_context(|| format!("apt-get downloaded no package {package}"))?;
    let files = work.path().join("files");
    process::output(
        process::command("dpkg-deb")
            .arg("--extract")
            .arg(&archive)
            .arg(&files),
    )?;
    match fs::rename(&files, &folder) {
        // Another command was faster.
        Err(_) if folder.is_dir() => {}
        other => other.with_context(|| format!("moving to {}", folder.display()))?,
    }
    Ok(folder)
}
