//! Programs of a Debian package, without installing it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use testnode::host::{Workspace, files, packages, process};

const PACKAGE: &str = "prometheus";

/// Returns promtool and Prometheus as they are installed, or else unpacks Debian's package into the
/// cache without installing it: installing Prometheus also starts it.
pub(crate) fn prometheus(workspace: &Workspace) -> Result<[PathBuf; 2]> {
    if let (Some(promtool), Some(prometheus)) = (process::find("promtool"), process::find(PACKAGE))
    {
        return Ok([promtool, prometheus]);
    }
    let programs = unpacked(workspace)?.join("usr/bin");
    Ok(["promtool", "prometheus"].map(|program| programs.join(program)))
}

fn unpacked(workspace: &Workspace) -> Result<PathBuf> {
    let Workspace {
        cache, progress, ..
    } = workspace;
    let folder = cache.join(format!("debian-{PACKAGE}"));
    if folder.is_dir() {
        return Ok(folder);
    }
    if process::find("apt-get").is_none() || process::find("dpkg-deb").is_none() {
        bail!("{PACKAGE} is not in PATH, and there is no apt-get to download it. Install it");
    }
    progress.print(format!("unpacking the Debian package {PACKAGE}"));
    files::create_folder(cache)?;
    let work = tempfile::Builder::new()
        .prefix(".unpacking-")
        .tempdir_in(cache)
        .context("creating a folder in the cache")?;
    let log = cache.join(format!("apt-{PACKAGE}.log"));
    let apt_get = |arguments: &[&str]| {
        let folder = Some(work.path());
        packages::apt_get(progress, arguments, &log, folder)
    };
    if apt_get(&["download", PACKAGE]).is_err() {
        // The package lists are missing, or name versions that the mirror no longer has.
        apt_get(&["update"])?;
        apt_get(&["download", PACKAGE])?;
    }
    let entries = fs::read_dir(work.path()).context("listing the downloaded files")?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    let archive = paths
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get downloaded no package {PACKAGE}"))?;
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
