//! Removing the node completely. All its parts have fixed names, so it does not matter how
//! far a start came, or whether its state can be read.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::layout::{CGROUP, DISK, RUN};
use super::{network, processes, sandbox};
use crate::host::files;

/// How long the kernel may take to release the cgroups of ended processes.
const CGROUP_RELEASE: Duration = Duration::from_secs(5);

const CGROUPS: &str = "/sys/fs/cgroup";

/// Returns whether any part of a node exists.
pub(crate) fn has_leftovers() -> bool {
    processes::any()
        || network::exists()
        || [RUN, DISK].iter().any(|folder| Path::new(folder).exists())
        || !cgroups().is_empty()
}

/// Removes processes, network, cgroups and folders, but not the logs.
///
/// # Errors
/// If a part cannot be removed; the others are removed first.
pub(crate) fn remove_all() -> Result<()> {
    // First, because processes keep all the rest in use.
    processes::end_all()?;
    let results = [
        network::remove(),
        remove_cgroups(),
        files::remove_folder(RUN),
        files::remove_folder(DISK),
    ];
    for place in sandbox::PLACES {
        // Only if it is empty: then it was created to be mounted on.
        let _ = fs::remove_dir(place);
    }
    results.into_iter().collect()
}

/// Creates the cgroup that the kubelet expects.
pub(crate) fn create_cgroups() -> Result<()> {
    let top = Path::new(CGROUPS);
    let is_v2 = top.join("cgroup.controllers").exists();
    let hierarchies = if is_v2 {
        vec![top.to_owned()]
    } else {
        folders(top)
    };
    hierarchies
        .iter()
        .try_for_each(|hierarchy| files::create_folder(hierarchy.join(CGROUP)))
}

/// Returns the node's cgroups: one in each hierarchy of cgroup v1, or the one of v2.
fn cgroups() -> Vec<PathBuf> {
    let top = PathBuf::from(CGROUPS);
    let mut hierarchies = folders(&top);
    hierarchies.push(top);
    let cgroups = hierarchies.iter().map(|top| top.join(CGROUP));
    cgroups.filter(|cgroup| cgroup.is_dir()).collect()
}

fn remove_cgroups() -> Result<()> {
    let started = Instant::now();
    loop {
        let left = cgroups();
        let Some(first) = left.first() else {
            return Ok(());
        };
        if started.elapsed() > CGROUP_RELEASE {
            bail!("the kernel does not release the cgroup {}", first.display());
        }
        left.iter().for_each(|cgroup| remove_tree(cgroup));
        thread::sleep(Duration::from_millis(20));
    }
}

/// Removes a cgroup and its children. Their files cannot be removed, and need not be.
fn remove_tree(cgroup: &Path) {
    for child in folders(cgroup) {
        remove_tree(&child);
    }
    let _ = fs::remove_dir(cgroup);
}

/// Returns the folders in a folder, without links: `cpu` is often a second name of another
/// hierarchy.
fn folders(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).collect()
}
