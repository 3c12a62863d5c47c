//! The node's programs, built from one Go module and kept for all checkouts.
//!
//! A build is kept under a hash of everything that it is made from, and gets its
//! name only when it is whole: a build that was killed leaves nothing that could
//! be taken for programs.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::digest::hex;
use crate::interrupt;
use crate::process::{self, Logged, WhenStopped};
use crate::progress::Progress;
use crate::workspace::Workspace;

/// The oldest Go that Kubernetes 1.35 is built with.
const OLDEST_GO: (u32, u32) = (1, 25);
/// Flags of the build. Without the version the API server calls itself
/// v0.0.0-master, and clients that look at the version go wrong.
const FLAGS: [&str; 4] = ["-trimpath", "-buildvcs=false", "-ldflags", LINKER_FLAGS];
const LINKER_FLAGS: &str = "-s -w \
    -X k8s.io/component-base/version.gitVersion=v1.35.4 \
    -X k8s.io/component-base/version.gitMajor=1 \
    -X k8s.io/component-base/version.gitMinor=35";
/// `tool` is every program that go.mod lists; the others are our own.
const PACKAGES: [&str; 4] = ["tool", "./certs", "./coredns", "./pause"];
/// What the programs are made from, under xtask/node.
const SOURCES: [&str; 5] = [
    "certs/main.go",
    "coredns/main.go",
    "go.mod",
    "go.sum",
    "pause/main.go",
];
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

/// Finds the programs, and builds them first when they are not there.
///
/// # Errors
/// When there is no Go that is new enough, or the build fails.
pub(crate) fn ensure(workspace: &Workspace) -> Result<Programs> {
    let Workspace {
        root,
        cache,
        progress,
        ..
    } = workspace;
    let module = root.join("xtask/node");
    let key = key_of(&module)?;
    let programs = Programs {
        folder: cache.join(format!("programs-{key}")),
        key,
    };
    if programs.folder.is_dir() {
        return Ok(programs);
    }
    let go = go()?;
    fs::create_dir_all(cache).with_context(|| format!("creating the cache {}", cache.display()))?;
    let _lock = lock(progress, cache)?;
    if programs.folder.is_dir() {
        return Ok(programs);
    }
    remove_old(cache);
    progress.say("building the node's programs: Kubernetes, etcd, CoreDNS, helm (about 6 minutes on 2 cores, once)");
    let building = tempfile::Builder::new()
        .prefix(BUILDING)
        .tempdir_in(cache)
        .context("creating a folder in the cache")?;
    let mut build = Command::new(go);
    build
        .arg("build")
        .arg("-v")
        .args(FLAGS)
        .arg("-o")
        .arg(building.path())
        .args(PACKAGES)
        .current_dir(&module)
        // Nothing of the user's settings may change what is built.
        .env("GOFLAGS", "")
        .env("GOWORK", "off")
        .env("GOTOOLCHAIN", "local")
        .env("CGO_ENABLED", "0");
    Logged {
        doing: "building the node's programs",
        log: cache.join("build.log"),
        when_stopped: WhenStopped::End,
    }
    .run(progress, &build)?;
    fs::rename(building.path().join("server"), building.path().join("etcd"))
        .context("naming etcd")?;
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

fn key_of(module: &Path) -> Result<String> {
    let read = |name: &str| {
        fs::read(module.join(name)).with_context(|| format!("reading xtask/node/{name}"))
    };
    let sources = SOURCES
        .iter()
        .map(|name| Ok((*name, read(name)?)))
        .collect::<Result<Vec<_>>>()?;
    Ok(key(&sources, std::env::consts::ARCH))
}

/// The name of a build: it changes with each thing that the programs depend on.
fn key(sources: &[(&str, Vec<u8>)], architecture: &str) -> String {
    let mut hash = Sha256::new();
    // Lengths go in as well, so that no text can move from one part to the next.
    let mut add = |part: &[u8]| {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    for part in FLAGS.iter().chain(&PACKAGES) {
        add(part.as_bytes());
    }
    add(architecture.as_bytes());
    for (name, content) in sources {
        add(name.as_bytes());
        add(content);
    }
    hex(&hash.finalize())[..16].to_owned()
}

fn go() -> Result<PathBuf> {
    let wanted = format!("{}.{}", OLDEST_GO.0, OLDEST_GO.1);
    let advice = format!(
        "the node is built from source: install Go {wanted} or newer (https://go.dev/doc/install) and put it in PATH"
    );
    let Some(go) = process::find("go") else {
        bail!("there is no Go here; {advice}")
    };
    let said = process::output(
        Command::new(&go)
            .args(["env", "GOVERSION"])
            .env("GOTOOLCHAIN", "local"),
    )?;
    match version(&said) {
        Some(found) if found >= OLDEST_GO => Ok(go),
        _ => bail!(
            "{} is {}, which is too old; {advice}",
            go.display(),
            said.trim()
        ),
    }
}

/// Reads `go1.26.8`, or what a build of Go from its repository calls itself.
fn version(said: &str) -> Option<(u32, u32)> {
    let text = said
        .trim()
        .trim_start_matches("devel ")
        .strip_prefix("go")?;
    let mut parts = text.split(['.', '-', ' ']);
    let mut number = || {
        parts
            .next()?
            .trim_end_matches(|c: char| !c.is_ascii_digit())
            .split("rc")
            .next()?
            .parse()
            .ok()
    };
    Some((number()?, number()?))
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
                progress.say("another command is building the node's programs: waiting for it");
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
        assert_eq!(key(&sources("a"), "x86_64"), key(&sources("a"), "x86_64"));
        assert_eq!(key(&sources("a"), "x86_64").len(), 16);
    }

    #[test]
    fn any_change_of_a_source_or_of_the_machine_gives_another_key() {
        let one = key(&sources("a"), "x86_64");
        assert_ne!(one, key(&sources("b"), "x86_64"));
        assert_ne!(one, key(&sources("a"), "aarch64"));
        assert_ne!(one, key(&sources("a")[..1], "x86_64"));
    }

    #[test]
    fn versions_of_go_are_read_and_compared_as_numbers() {
        assert_eq!(version("go1.26.8\n"), Some((1, 26)));
        assert_eq!(version("go1.25"), Some((1, 25)));
        assert_eq!(version("go1.27rc1"), Some((1, 27)));
        assert_eq!(version("devel go1.28-abc123"), Some((1, 28)));
        assert_eq!(version("gccgo"), None);
        assert!(version("go1.9.7") < Some(OLDEST_GO));
    }

    #[test]
    fn every_go_source_of_the_module_is_part_of_the_key() {
        let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("node");
        let mut found = vec!["go.mod".to_owned(), "go.sum".to_owned()];
        for folder in fs::read_dir(&module)
            .unwrap()
            .flatten()
            .filter(|entry| entry.path().is_dir())
        {
            for file in fs::read_dir(folder.path()).unwrap().flatten() {
                found.push(
                    file.path()
                        .strip_prefix(&module)
                        .unwrap()
                        .display()
                        .to_string(),
                );
            }
        }
        found.sort();
        assert_eq!(found, SOURCES);
    }
}
