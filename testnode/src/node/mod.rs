//! The node: starting, inspecting and removing it.

mod certs;
mod cleanup;
mod components;
mod containerd;
mod dns;
mod layout;
mod network;
mod processes;
mod sandbox;
mod start;
mod state;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use self::state::Found;
use crate::NetworkSettings;
use crate::host::{Progress, Workspace, files, interrupt, packages};
use crate::image::Image;
use crate::programs::{self, Programs};

/// Starts the node. A healthy node of this checkout and version is kept; any other node is
/// removed first.
///
/// # Errors
/// If this is not root, something is missing and cannot be installed, or a program does not
/// start: then with the end of its log, and nothing but the logs is left of the node.
pub fn up(workspace: &Workspace, settings: &NetworkSettings) -> Result<()> {
    let progress = &workspace.progress;
    require_root("up")?;
    packages::ensure(progress, packages::NODE, &workspace.cache.join("apt.log"))?;
    let programs = programs::NODE.build(workspace)?;
    let _lock = lock(progress)?;
    let plan = start::plan(&programs, settings)?;
    let checkout = workspace.root.display().to_string();
    let found = inspect(&programs, settings);
    interrupt::check()?;
    if !found.is_nothing() {
        let Some(reason) = found.defect(&checkout, Some(&plan.version)) else {
            progress.print(format!("the node runs; kubeconfig: {}", layout::KUBECONFIG));
            return Ok(());
        };
        progress.print(format!("replacing the existing node: {reason}"));
        cleanup::remove_all()?;
    }
    if let Err(error) = start::node(progress, &programs, &plan, &checkout) {
        progress.print("the node did not start; removing it");
        let error = error.context(format!("starting the node (all logs: {})", layout::LOGS));
        return Err(match cleanup::remove_all() {
            Ok(()) => error,
            Err(second) => error.context(format!("removing it failed, too: {second:#}")),
        });
    }
    progress.print(format!("the node runs; kubeconfig: {}", layout::KUBECONFIG));
    Ok(())
}

/// Removes the node and everything it left.
pub fn down(workspace: &Workspace) -> Result<()> {
    let progress = &workspace.progress;
    require_root("down")?;
    let _lock = lock(progress)?;
    let existed = cleanup::has_leftovers();
    cleanup::remove_all()?;
    files::remove_folder(layout::LOGS)?;
    let result = if existed {
        "removed the node"
    } else {
        "there is no node"
    };
    progress.print(result);
    Ok(())
}

/// Prints the state of the node.
///
/// # Errors
/// If there is no healthy node of this checkout: with the reason.
pub fn status(workspace: &Workspace, settings: &NetworkSettings) -> Result<()> {
    require_root("status")?;
    if !cleanup::has_leftovers() {
        bail!("{MISSING}");
    }
    let found = inspect(&programs::NODE.build(workspace)?, settings);
    let checkout = workspace.root.display().to_string();
    if let Some(reason) = found.defect(&checkout, None) {
        bail!("the node cannot be used: {reason}. Replace it: cargo xtask cluster up");
    }
    workspace.progress.print(format!(
        "the node runs: {}, kubeconfig: {}",
        settings.api_url(),
        layout::KUBECONFIG
    ));
    Ok(())
}

const MISSING: &str = "there is no node. Start one: cargo xtask cluster up";

/// Returns the path of the administrator's kubeconfig.
pub fn kubeconfig() -> Result<PathBuf> {
    let path = Path::new(layout::KUBECONFIG);
    if !path.exists() {
        bail!("{MISSING}");
    }
    Ok(path.to_owned())
}

/// Loads those images into the node that it does not have.
pub fn load(progress: &Progress, images: &[Image]) -> Result<()> {
    let loaded = containerd::run(&["images", "ls", "--quiet"])?;
    for image in images {
        let reference = image.reference();
        let name = containerd::full_name(&reference);
        if !loaded.lines().any(|line| line == name) {
            progress.print(format!("loading {reference} into the node"));
            containerd::import(&image.archive)?;
        }
    }
    Ok(())
}

fn inspect(programs: &Programs, settings: &NetworkSettings) -> Found {
    let state = state::read();
    let init = processes::init();
    let missing = init.as_ref().map_or(Vec::new(), |init| {
        sandbox::missing(init, programs, &components::all(settings))
    });
    let is_ready = state.as_ref().is_some_and(|state| state.is_ready);
    let serves = init.is_some() && missing.is_empty() && is_ready;
    Found {
        init: init.map(|init| init.identity),
        has_leftovers: cleanup::has_leftovers(),
        failure: serves.then(|| start::failure(programs, settings)).flatten(),
        missing,
        state,
    }
}

fn require_root(command: &str) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!(
            "the node needs namespaces, mounts and routes, so this must run as root. Run:\n    \
             sudo env \"PATH=$PATH\" \"HOME=$HOME\" cargo xtask cluster {command}"
        );
    }
    Ok(())
}

/// Waits until no other command changes the node.
fn lock(progress: &Progress) -> Result<std::fs::File> {
    files::lock(progress, layout::LOCK.as_ref(), "changes the node")
}
