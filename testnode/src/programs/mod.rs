//! Programs built from Go modules and cached for all checkouts.

pub mod cache;
mod go;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::host::Workspace;
use crate::host::process::Logged;

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
        let sources = cache::read_files(&workspace.root.join(self.folder))?;
        let key = self.key(&sources, std::env::consts::ARCH);
        let folder = cache::folder(workspace, &key, |folder| {
            let progress = &workspace.progress;
            let go = go::find(self.oldest_go, self.what)?;
            let doing = format!("building {}", self.what);
            progress.print(format!("{doing}: {}", self.notice));
            let mut build = Command::new(go);
            go::isolated(&mut build)
                .args(["build", "-v"])
                .args(self.flags())
                .arg("-o")
                // With the slash it is a folder even if there is only one program.
                .arg(folder.join(""))
                .args(self.packages)
                .current_dir(workspace.root.join(self.folder));
            let log = workspace.cache.join(format!("build-{}.log", self.name));
            let logged = Logged::new(&doing, log);
            go::with_retries(progress, || logged.run(progress, &build))?;
            let (from, to) = self.renamed;
            fs::rename(folder.join(from), folder.join(to)).context("renaming a program")
        })?;
        Ok(Programs { folder, key })
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
        let flags = self.flags();
        let settings = flags.iter().chain(self.packages).copied();
        let settings = settings.chain([architecture]).map(str::as_bytes);
        let sources = sources.iter();
        let sources = sources.flat_map(|(name, content)| [name.as_bytes(), content.as_slice()]);
        cache::key(settings.chain(sources))
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
            cache::read_files(folder.path()).unwrap()
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
