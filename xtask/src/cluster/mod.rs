//! `cargo xtask cluster`: a real single-node Kubernetes on this machine.

mod certs;
mod cleanup;
mod components;
mod dns;
mod layout;
mod network;
mod processes;
mod sandbox;
mod start;
mod state;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use self::state::{Found, State, Verdict};
use crate::image::Image;
use crate::interrupt;
use crate::packages;
use crate::process;
use crate::programs::{self, Programs};
use crate::progress::Progress;
use crate::workspace::Workspace;

/// A node that is up.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    /// The administrator's access to it.
    pub(crate) kubeconfig: PathBuf,
    /// kubectl and helm among them.
    pub(crate) programs: Programs,
}

/// Brings the node up. One that is up already, of this checkout and version,
/// and works, is kept; anything else that is found of a node is removed first.
///
/// # Errors
/// When this is not root, something is missing that cannot be installed, or a
/// program does not come up: then with the end of its log, and with nothing of
/// the node left but the logs.
pub(crate) fn up(workspace: &Workspace) -> Result<Cluster> {
    let progress = &workspace.progress;
    require_root("up")?;
    packages::ensure(progress, packages::NODE, &workspace.cache.join("apt.log"))?;
    let programs = programs::ensure(workspace)?;
    let _lock = lock(progress)?;
    let plan = start::plan(&programs)?;
    let checkout = workspace.root.display().to_string();
    let cluster = Cluster {
        kubeconfig: layout::KUBECONFIG.into(),
        programs,
    };
    let found = inspect(&cluster.programs);
    interrupt::check()?;
    match state::verdict(&found, &checkout, &plan.version) {
        Verdict::Keep => {
            progress.say(format!(
                "the node is up already; kubeconfig: {}",
                layout::KUBECONFIG
            ));
            return Ok(cluster);
        }
        Verdict::Replace(reason) => {
            progress.say(format!("replacing the node that is there: {reason}"));
            cleanup::everything()?;
        }
        Verdict::Start => {}
    }
    if let Err(error) = start::node(progress, &cluster.programs, &plan, &checkout) {
        progress.say("the node did not come up: removing what there is of it");
        // The first error is the one to read.
        let cleaned = cleanup::everything();
        let error = error.context(format!("starting the node (all logs: {})", layout::LOGS));
        return Err(match cleaned {
            Ok(()) => error,
            Err(second) => error.context(format!("and removing it failed too: {second:#}")),
        });
    }
    progress.say(format!(
        "the node is up; kubeconfig: {}",
        layout::KUBECONFIG
    ));
    Ok(cluster)
}

/// Removes the node and everything that it left.
///
/// # Errors
/// When this is not root, or something cannot be removed.
pub(crate) fn down(workspace: &Workspace) -> Result<()> {
    let progress = &workspace.progress;
    require_root("down")?;
    let _lock = lock(progress)?;
    let was_there = cleanup::anything();
    cleanup::everything()?;
    match fs::remove_dir_all(layout::LOGS) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing {}", layout::LOGS));
        }
        _ => {}
    }
    progress.say(if was_there {
        "the node is gone"
    } else {
        "there is no node"
    });
    Ok(())
}

/// Says what there is of a node.
///
/// # Errors
/// When it is not up and well; so the exit status tells too.
pub(crate) fn status(workspace: &Workspace) -> Result<()> {
    let progress = &workspace.progress;
    require_root("status")?;
    if !cleanup::anything() {
        bail!("there is no node; `cargo xtask cluster up` starts one");
    }
    let programs = programs::ensure(workspace)?;
    let Found {
        state,
        init,
        missing,
        sick,
        ..
    } = inspect(&programs);
    let Some(State {
        checkout,
        init: recorded,
        ready,
        ..
    }) = state
    else {
        bail!(
            "there is something of a node, but nothing tells what it is; `cargo xtask cluster up` replaces it"
        );
    };
    if checkout != workspace.root.display().to_string() {
        // Its programs may be in another cache, so they are not looked for.
        bail!(
            "the node that is there belongs to {checkout}; `cargo xtask cluster up` here replaces it"
        );
    }
    progress.say(format!(
        "started by {checkout}, first process {}",
        recorded.pid
    ));
    if init != Some(recorded) {
        bail!("its processes were killed; `cargo xtask cluster up` replaces it");
    }
    if !ready {
        bail!("its start has not come to its end");
    }
    if !missing.is_empty() {
        bail!(
            "of its programs these do not run: {}; `cargo xtask cluster up` replaces it",
            missing.join(", ")
        );
    }
    if let Some(reason) = sick {
        bail!("it does not work: {reason}; `cargo xtask cluster up` replaces it");
    }
    progress.say(format!(
        "up and well: {}, kubeconfig: {}",
        layout::api(),
        layout::KUBECONFIG
    ));
    Ok(())
}

/// The administrator's kubeconfig.
///
/// # Errors
/// When there is none, as no node is up.
pub(crate) fn kubeconfig() -> Result<PathBuf> {
    let path = PathBuf::from(layout::KUBECONFIG);
    if !path.exists() {
        bail!("there is no node; `cargo xtask cluster up` starts one");
    }
    Ok(path)
}

/// Gives images to the node. Those that it has are left alone.
///
/// # Errors
/// When an archive cannot be read, or the node is not up.
pub(crate) fn load(progress: &Progress, images: &[Image]) -> Result<()> {
    for image in images {
        let there = containerd(&["images", "ls", "--quiet"])?;
        if there
            .lines()
            .any(|line| line == full_name(&image.reference()))
        {
            continue;
        }
        progress.say(format!("loading {} into the node", image.reference()));
        import(&image.archive)?;
    }
    Ok(())
}

/// What containerd calls an image that a pod names without a registry.
fn full_name(reference: &str) -> String {
    match reference.split_once('/') {
        None => format!("docker.io/library/{reference}"),
        Some(_) => format!("docker.io/{reference}"),
    }
}

fn import(archive: &Path) -> Result<()> {
    containerd(&["images", "import", &archive.display().to_string()]).map(|_| ())
}

fn containerd(arguments: &[&str]) -> Result<String> {
    let mut ctr = process::command("ctr");
    ctr.args([
        "--address",
        layout::CONTAINERD,
        "--namespace",
        "k8s.io",
        "--connect-timeout",
        "2s",
    ])
    .args(arguments);
    process::output(&mut ctr)
}

fn inspect(programs: &Programs) -> Found {
    let state = state::read();
    let init = processes::init();
    let missing = match &init {
        Some(init) => sandbox::missing(init, programs, &components::all()),
        None => Vec::new(),
    };
    let serves =
        init.is_some() && missing.is_empty() && state.as_ref().is_some_and(|state| state.ready);
    Found {
        init: init.map(|init| init.identity),
        leftovers: cleanup::anything(),
        sick: if serves { start::sick(programs) } else { None },
        missing,
        state,
    }
}

fn require_root(command: &str) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    bail!(
        "a node takes namespaces, mounts and routes, so this must run as root; type:\n    \
         sudo env \"PATH=$PATH\" \"HOME=$HOME\" cargo xtask cluster {command}"
    )
}

/// One command at a time changes the node.
fn lock(progress: &Progress) -> Result<File> {
    let file = File::create(layout::LOCK).with_context(|| format!("creating {}", layout::LOCK))?;
    let mut said = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", layout::LOCK));
            }
            Err(TryLockError::WouldBlock) if !said => {
                progress.say("another command is at work on the node: waiting for it");
                said = true;
            }
            Err(TryLockError::WouldBlock) => {}
        }
        interrupt::check()?;
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_looked_for_by_the_name_that_containerd_gives_it() {
        assert_eq!(
            full_name("gateway-queue:1"),
            "docker.io/library/gateway-queue:1"
        );
        assert_eq!(
            full_name("gateway-queue-node/pause:1"),
            "docker.io/gateway-queue-node/pause:1"
        );
    }
}
