//! Programs of Debian packages, without installing them: an installed server also starts.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use testnode::host::{Workspace, files, packages, process};

/// Returns promtool and Prometheus as they are installed, or else those of Debian's package.
pub(crate) fn prometheus(workspace: &Workspace) -> Result<[PathBuf; 2]> {
    if let (Some(promtool), Some(prometheus)) =
        (process::find("promtool"), process::find("prometheus"))
    {
        return Ok([promtool, prometheus]);
    }
    let programs = unpacked(workspace, "prometheus")?.join("usr/bin");
    Ok(["promtool", "prometheus"].map(|program| programs.join(program)))
}

/// Returns nginx and its module for TCP. An installed nginx need not have a module that fits.
///
/// # Errors
/// If the packages cannot be downloaded, or are not those of Debian.
pub(crate) fn nginx(workspace: &Workspace) -> Result<[PathBuf; 2]> {
    let program = unpacked(workspace, "nginx")?.join("usr/sbin/nginx");
    let module = "usr/lib/nginx/modules/ngx_stream_module.so";
    let module = unpacked(workspace, "libnginx-mod-stream")?.join(module);
    for file in [&program, &module] {
        ensure!(file.is_file(), "no {} in Debian's package", file.display());
    }
    Ok([program, module])
}

/// Returns the folder with the files of a package, which is downloaded if it is not cached.
fn unpacked(workspace: &Workspace, package: &str) -> Result<PathBuf> {
    let Workspace {
        cache, progress, ..
    } = workspace;
    let folder = cache.join(format!("debian-{package}"));
    if folder.is_dir() {
        return Ok(folder);
    }
    if process::find("apt-get").is_none() || process::find("dpkg-deb").is_none() {
        bail!("there is no apt-get to download the Debian package {package}");
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
