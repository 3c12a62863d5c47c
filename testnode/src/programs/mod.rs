//! Programs built from Go modules and cached for all checkouts.
//!
//! The cache key of a build is a hash of all its inputs. A build gets its final name only
//! once it is complete.

mod go;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::host::Workspace;
use crate::host::files::{self, hex};
use crate::host::process::Logged;

/// How long the programs of older checkouts are kept: they take half a gigabyte each.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// How the name of an unfinished build begins.
const UNFINISHED: &str = ".building-";

/// A Go module, and the programs that are built from it.
#[derive(Clone, Copy, Debug)]
pub struct Module {
    /// The name of the module's build log.
    pub name: &'static str,
    /// The folder of its go.mod, in the checkout.
    pub folder: &'static str,
    /// The programs, as in "building the chart's tools".
    pub what: &'static str,
    /// What is built and how long it takes.
    pub notice: &'static str,
    /// The oldest Go that builds it.
    pub oldest_go: (u32, u32),
    /// The linker's flags, which set the versions that programs report.
    pub linker_flags: &'static str,
    /// The packages to build; `tool` stands for the tools that go.mod lists.
    pub packages: &'static [&'static str],
    /// The names of the built program and of the file it is renamed to.
    pub renamed: (&'static str, &'static str),
}

/// The node's programs, kubectl and helm.
pub const NODE: Module = Module {
    name: "node",
    folder: "testnode/go",
    what: "the node's programs",
    notice: "Kubernetes, etcd, CoreDNS, helm (about 6 minutes on 2 cores, once)",
    // Kubernetes 1.35 needs it.
    oldest_go: (1, 25),
    // Without a version, the API server reports v0.0.0-master, which misleads clients that
    // compare versions.
    linker_flags: "-s -w \
        -X k8s.io/component-base/version.gitVersion=v1.35.4 \
        -X k8s.io/component-base/version.gitMajor=1 \
        -X k8s.io/component-base/version.gitMinor=35",
    packages: &["tool", "./certs", "./coredns", "./pause"],
    renamed: ("server", "etcd"),
};

/// A folder of built programs.
#[derive(Clone, Debug)]
pub struct Programs {
    folder: PathBuf,
    /// The hash of all inputs of the build.
    pub(crate) key: String,
}

impl Programs {
    /// Returns the path of the program `name`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Module {
    /// Returns the module's programs, and builds them if they are not cached.
    pub fn build(&self, workspace: &Workspace) -> Result<Programs> {
        let Workspace {
            root,
            cache,
            progress,
            ..
        } = workspace;
        let folder = root.join(self.folder);
        let mut sources = BTreeMap::new();
        add_files(&folder, "", &mut sources)
            .with_context(|| format!("reading {}", folder.display()))?;
        let key = self.key(&sources, std::env::consts::ARCH);
        let programs = Programs {
            folder: cache.join(format!("programs-{key}")),
            key,
        };
        if programs.folder.is_dir() {
            return Ok(programs);
        }
        let go = go::find(self.oldest_go, self.what)?;
        files::create_folder(cache)?;
        // Two builds at a time would only slow each other down.
        let _lock = files::lock(progress, &cache.join("lock"), "builds programs")?;
        if programs.folder.is_dir() {
            return Ok(programs);
        }
        remove_old(cache);
        let doing = format!("building {}", self.what);
        progress.print(format!("{doing}: {}", self.notice));
        let unfinished = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempdir_in(cache)
            .context("creating a folder in the cache")?;
        let mut build = Command::new(go);
        go::isolated(&mut build)
            .args(["build", "-v"])
            .args(self.flags())
            .arg("-o")
            // With the slash it is a folder even if there is only one program.
            .arg(unfinished.path().join(""))
            .args(self.packages)
            .current_dir(&folder);
        let log = cache.join(format!("build-{}.log", self.name));
        let logged = Logged::new(&doing, log);
        go::with_retries(progress, || logged.run(progress, &build))?;
        let (from, to) = self.renamed;
        // Unlike a temporary folder, the others are readable for everyone.
        fs::rename(unfinished.path().join(from), unfinished.path().join(to))
            .and_then(|()| fs::set_permissions(unfinished.path(), Permissions::from_mode(0o755)))
            .and_then(|()| fs::rename(unfinished.path(), &programs.folder))
            .with_context(|| format!("moving the programs to {}", programs.folder.display()))?;
        Ok(programs)
    }

    /// Returns the folder of the sources of `dependency`, a module that this one's go.mod
    /// requires and its go.sum pins, and downloads them if they are not cached.
    pub fn download(&self, workspace: &Workspace, dependency: &str) -> Result<PathBuf> {
        let go = go::find(self.oldest_go, self.what)?;
        let folder = workspace.root.join(self.folder);
        go::with_retries(&workspace.progress, || {
            go::sources(&go, &folder, dependency)
        })
    }

    fn flags(&self) -> [&'static str; 4] {
        [
            "-trimpath",
            "-buildvcs=false",
            "-ldflags",
            self.linker_flags,
        ]
    }

    /// Returns the hash of all inputs of a build.
    fn key(&self, sources: &BTreeMap<String, Vec<u8>>, architecture: &str) -> String {
        let mut hash = Sha256::new();
        // Lengths are hashed, too, so that text cannot move from one part to the next.
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        for part in self.flags().iter().chain(self.packages) {
            add(part.as_bytes());
        }
        add(architecture.as_bytes());
        for (name, content) in sources {
            add(name.as_bytes());
            add(content);
        }
        hex(&hash.finalize())[..16].to_owned()
    }
}

/// Adds the files below `folder`, by their paths, each of which begins with `prefix`. A change to
/// one of them causes a new build.
fn add_files(
    folder: &Path,
    prefix: &str,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().display();
        if path.is_dir() {
            add_files(&path, &format!("{prefix}{name}/"), files)?;
        } else {
            files.insert(format!("{prefix}{name}"), fs::read(&path)?);
        }
    }
    Ok(())
}

/// Removes unfinished builds and programs that were built more than a month ago. What
/// cannot be removed only takes space.
fn remove_old(cache: &Path) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let modified = entry.metadata().and_then(|data| data.modified());
        let age = modified.ok().and_then(|at| at.elapsed().ok());
        let is_old = name.starts_with("programs-") && age.is_some_and(|age| age > KEPT);
        if name.starts_with(UNFINISHED) || is_old {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_depends_on_the_sources_the_machine_and_the_module() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("pause")).unwrap();
        let sources = |text: &str| {
            fs::write(folder.path().join("pause/main.go"), text).unwrap();
            let mut sources = BTreeMap::new();
            add_files(folder.path(), "", &mut sources).unwrap();
            sources
        };
        let other = Module {
            packages: &["tool"],
            ..NODE
        };
        let (a, b) = (sources("a"), sources("b"));
        assert!(a.keys().eq(["pause/main.go"]));
        let key = NODE.key(&a, "x86_64");
        assert_eq!(key.len(), 16);
        assert_eq!(key, NODE.key(&a, "x86_64"));
        assert_ne!(key, NODE.key(&b, "x86_64"));
        assert_ne!(key, NODE.key(&a, "aarch64"));
        assert_ne!(key, NODE.key(&BTreeMap::new(), "x86_64"));
        assert_ne!(key, other.key(&a, "x86_64"));
    }
}
