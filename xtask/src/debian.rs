//! Programs of a Debian package, without installing it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use testnode::host::{Workspace, files, packages, process};

/// The programs of Prometheus.
#[derive(Clone, Debug)]
pub(crate) struct Prometheus {
    pub(crate) promtool: PathBuf,
    pub(crate) prometheus: PathBuf,
}

/// Returns the installed programs, or else unpacks Debian's package into the cache without
/// installing it: installing Prometheus also starts it.
pub(crate) fn prometheus(workspace: &Workspace) -> Result<Prometheus> {
    let installed = process::find("promtool").zip(process::find("prometheus"));
    let (promtool, prometheus) = match installed {
        Some(installed) => installed,
        None => {
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
        bail!("{package} is not in PATH, and there is no apt-get to download it. Install it");
    }
    progress.print(format!("unpacking the Debian package {package}"));
    files::create_folder(cache)?;
    let work = tempfile::Builder::new()
        .prefix(".unpacking-")
        .tempdir_in(cache)
        .context("creating a folder in the cache")?;
    let log = cache.join(format!("apt-{package}.log"));
    let apt_get = |arguments: &[&str]| {
        let folder = Some(work.path());
        packages::apt_get(progress, arguments, &log, folder)
    };
    if apt_get(&["download", package]).is_err() {
        // The package lists are missing, or name versions that the mirror no longer has.
        apt_get(&["update"])?;
        apt_get(&["download", package])?;
    }
    let entries = fs::read_dir(work.path()).context("listing the downloaded files")?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    let archive = paths
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get downloaded no package {package}"))?;
    let files = work.path().join("files");
    let mut extract = process::command("dpkg-deb");
    process::output(extract.arg("--extract").arg(&archive).arg(&files))?;
    match fs::rename(&files, &folder) {
        // Another command was faster.
        Err(_) if folder.is_dir() => {}
        other => other.with_context(|| format!("moving to {}", folder.display()))?,
    }
    Ok(folder)
}
