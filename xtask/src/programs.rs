//! Programs that are built from Go modules, and kept for all checkouts.
//!
//! A build is kept under a hash of everything that it is made from, and gets its
//! name only when it is whole: a build that was killed leaves nothing that could
//! be taken for programs.

mod go;
mod modules;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use self::modules::{Module, NODE, TOOLS};
use crate::digest::hex;
use crate::interrupt;
use crate::process::{Logged, WhenStopped};
use crate::progress::Progress;
use crate::workspace::Workspace;

/// Programs of older checkouts take half a gigabyte each.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// A folder of built programs.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    folder: PathBuf,
    /// The hash of what they were made from.
    pub(crate) key: String,
}

impl Programs {
    /// The path of the program `name`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// kubectl, of the node's own version.
    pub(crate) fn kubectl(&self) -> PathBuf {
        self.path("kubectl")
    }

    /// helm 4.
    pub(crate) fn helm(&self) -> PathBuf {
        self.path("helm")
    }
}

/// The node's programs, built first when they are not there.
///
/// # Errors
/// When there is no Go that is new enough, or the build fails.
pub(crate) fn ensure(workspace: &Workspace) -> Result<Programs> {
    built(workspace, &NODE)
}

/// The programs that check the chart, likewise: helm3, helm-unittest, helm-docs
/// and kubeconform.
///
/// # Errors
/// As [`ensure`].
pub(crate) fn tools(workspace: &Workspace) -> Result<Programs> {
    built(workspace, &TOOLS)
}

/// The folder with the definitions of prometheus-operator, as they are published
/// with its sources.
///
/// # Errors
/// When there is no Go, or they cannot be downloaded.
pub(crate) fn monitors(workspace: &Workspace) -> Result<PathBuf> {
    const MODULE: &str = "github.com/prometheus-operator/prometheus-operator";
    let go = go::find(TOOLS.oldest_go, TOOLS.what)?;
    let folder = workspace.root.join("xtask/monitors");
    let sources = go::again(&workspace.progress, || go::sources(&go, &folder, MODULE))?;
    Ok(sources.join("jsonnet/prometheus-operator"))
}

fn built(workspace: &Workspace, module: &Module) -> Result<Programs> {
    let Workspace {
        root,
        cache,
        progress,
        ..
    } = workspace;
    let folder = root.join("xtask").join(module.folder);
    let key = key_of(module, &folder)?;
    let programs = Programs {
        folder: cache.join(format!("programs-{key}")),
        key,
    };
    if programs.folder.is_dir() {
        return Ok(programs);
    }
    let go = go::find(module.oldest_go, module.what)?;
    fs::create_dir_all(cache).with_context(|| format!("creating the cache {}", cache.display()))?;
    let _lock = lock(progress, cache)?;
    if programs.folder.is_dir() {
        return Ok(programs);
    }
    remove_old(cache);
    let doing = format!("building {}", module.what);
    progress.say(format!("{doing}: {}", module.notice));
    let building = tempfile::Builder::new()
        .prefix(BUILDING)
        .tempdir_in(cache)
        .context("creating a folder in the cache")?;
    let mut build = Command::new(go);
    go::clean(&mut build)
        .arg("build")
        .arg("-v")
        .args(module.flags)
        .arg("-o")
        // With the slash it is a folder, also when there is one program only.
        .arg(building.path().join(""))
        .args(module.packages)
        .current_dir(&folder);
    let logged = || Logged {
        doing: &doing,
        log: cache.join(format!("build-{}.log", module.folder)),
        when_stopped: WhenStopped::End,
    };
    go::again(progress, || logged().run(progress, &build))?;
    for (from, to) in module.renamed {
        fs::rename(building.path().join(from), building.path().join(to))
            .with_context(|| format!("naming {to}"))?;
    }
    // Readable as the other folders are; a temporary one is the owner's alone.
    fs::set_permissions(
        building.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .and_then(|()| fs::rename(building.path(), &programs.folder))
    .with_context(|| format!("moving the programs to {}", programs.folder.display()))?;
    Ok(programs)
}

const BUILDING: &str = ".building-";

fn key_of(module: &Module, folder: &Path) -> Result<String> {
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).with_context(|| format!("reading {}", path.display()))
    };
    let sources = module
        .sources
        .iter()
        .map(|name| Ok((*name, read(name)?)))
        .collect::<Result<Vec<_>>>()?;
    Ok(key(module, &sources, std::env::consts::ARCH))
}

/// The name of a build: it changes with each thing that the programs depend on.
fn key(module: &Module, sources: &[(&str, Vec<u8>)], architecture: &str) -> String {
    let mut hash = Sha256::new();
    // Lengths go in as well, so that no text can move from one part to the next.
    let mut add = |part: &[u8]| {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    for part in module.flags.iter().chain(module.packages) {
        add(part.as_bytes());
    }
    add(architecture.as_bytes());
    for (name, content) in sources {
        add(name.as_bytes());
        add(content);
    }
    hex(&hash.finalize())[..16].to_owned()
}

/// One build at a time: two would only halve each other's speed.
fn lock(progress: &Progress, cache: &Path) -> Result<File> {
    let path = cache.join("lock");
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    let mut said = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", path.display()));
            }
            Err(TryLockError::WouldBlock) if !said => {
                progress.say("another command is building programs: waiting for it");
                said = true;
            }
            Err(TryLockError::WouldBlock) => {}
        }
        interrupt::check()?;
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Removes what killed builds left, and programs that nobody built for a month.
/// What cannot be removed only takes space.
fn remove_old(cache: &Path) {
    let Ok(entries) = fs::read_dir(cache) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let age = entry
            .metadata()
            .and_then(|data| data.modified())
            .ok()
            .and_then(|at| at.elapsed().ok());
        if name.starts_with(BUILDING)
            || (name.starts_with("programs-") && age.is_some_and(|age| age > KEPT))
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(text: &str) -> Vec<(&'static str, Vec<u8>)> {
        vec![
            ("go.mod", text.as_bytes().to_vec()),
            ("go.sum", b"sums".to_vec()),
        ]
    }

    #[test]
    fn the_same_sources_give_the_same_key() {
        let one = key(&NODE, &sources("a"), "x86_64");
        assert_eq!(one, key(&NODE, &sources("a"), "x86_64"));
        assert_eq!(one.len(), 16);
    }

    #[test]
    fn any_change_of_a_source_or_of_the_machine_gives_another_key() {
        let one = key(&NODE, &sources("a"), "x86_64");
        assert_ne!(one, key(&NODE, &sources("b"), "x86_64"));
        assert_ne!(one, key(&NODE, &sources("a"), "aarch64"));
        assert_ne!(one, key(&NODE, &sources("a")[..1], "x86_64"));
        assert_ne!(one, key(&TOOLS, &sources("a"), "x86_64"));
    }

    #[test]
    fn every_go_source_of_a_module_is_part_of_the_key() {
        for module in [NODE, TOOLS] {
            let top = Path::new(env!("CARGO_MANIFEST_DIR")).join(module.folder);
            let mut found = Vec::new();
            files(&top, &mut found);
            let mut found: Vec<String> = found
                .iter()
                .map(|path| path.strip_prefix(&top).unwrap().display().to_string())
                .collect();
            found.sort();
            assert_eq!(found, module.sources);
        }
    }

    fn files(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            match entry.path() {
                path if path.is_dir() => files(&path, found),
                path => found.push(path),
            }
        }
    }
}
