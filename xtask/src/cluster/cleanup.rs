//! Leaving nothing behind. Everything is found by its fixed name, so it makes no
//! difference what was written down, or how far a start had come.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::layout::{CGROUP, DISK, RUN};
use super::{network, processes, sandbox};

/// How long the kernel may take to let go of ended processes' cgroups.
const SETTLING: Duration = Duration::from_secs(5);

/// Whether anything of a node is there.
pub(crate) fn anything() -> bool {
    processes::any()
        || network::exists()
        || [RUN, DISK].iter().any(|folder| Path::new(folder).exists())
        || !cgroups().is_empty()
}

/// Removes processes, network, cgroups and folders, but not the logs.
///
/// # Errors
/// When something that is there cannot be removed; the rest is removed first.
pub(crate) fn everything() -> Result<()> {
    // Processes first: they hold all the rest.
    processes::end_all()?;
    let results = [
        network::remove(),
        remove_cgroups(),
        remove_folder(RUN),
        remove_folder(DISK),
    ];
    for place in sandbox::PLACES {
        // Ours only when empty: then it was made to be mounted on.
        let _ = fs::remove_dir(place);
    }
    results.into_iter().collect()
}

fn remove_folder(folder: &str) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {folder}"))
        }
        _ => Ok(()),
    }
}

/// The node's cgroups: one in each hierarchy of cgroup v1, or the one of v2.
fn cgroups() -> Vec<PathBuf> {
    const TOP: &str = "/sys/fs/cgroup";
    let mut tops = vec![PathBuf::from(TOP)];
    tops.extend(folders(Path::new(TOP)));
    tops.into_iter()
        .map(|top| top.join(CGROUP))
        .filter(|cgroup| cgroup.is_dir())
        .collect()
}

/// Makes the cgroup that the kubelet wants to find.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn make_cgroups() -> Result<()> {
    let top = Path::new("/sys/fs/cgroup");
    let hierarchies = if top.join("cgroup.controllers").exists() {
        vec![top.to_owned()]
    } else {
        folders(top)
    };
    for hierarchy in hierarchies {
        let cgroup = hierarchy.join(CGROUP);
        fs::create_dir_all(&cgroup)
            .with_context(|| format!("creating the cgroup {}", cgroup.display()))?;
    }
    Ok(())
}

fn remove_cgroups() -> Result<()> {
    let began = Instant::now();
    loop {
        let left = cgroups();
        if left.is_empty() {
            return Ok(());
        }
        for cgroup in &left {
            remove_tree(cgroup);
        }
        if began.elapsed() > SETTLING && !cgroups().is_empty() {
            bail!(
                "the kernel does not let go of the cgroup {}",
                left[0].display()
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A cgroup goes once it has neither children nor processes; its files are not
/// removed, they go with it.
fn remove_tree(cgroup: &Path) {
    for child in folders(cgroup) {
        remove_tree(&child);
    }
    let _ = fs::remove_dir(cgroup);
}

/// Folders in a folder. Links are left out: `cpu` is often a second name of
/// another hierarchy.
fn folders(parent: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else {
        return Vec::new();
    };
    let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries
        .flatten()
        .filter(is_folder)
        .map(|entry| entry.path())
        .collect()
}
