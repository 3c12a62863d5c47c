//! The programs that xtask builds, and definitions that it downloads.

use std::path::PathBuf;

use anyhow::Result;
use testnode::host::Workspace;
use testnode::programs::{Module, NODE};

pub(crate) use testnode::programs::Programs;

/// The programs that check the chart: helm3, helm-unittest, helm-docs and kubeconform.
const TOOLS: Module = Module {
    name: "tools",
    folder: "xtask/tools",
    what: "the chart's tools",
    notice: "helm 3, helm-unittest, helm-docs, kubeconform (about 3 minutes on 2 cores, once)",
    // helm-unittest needs it.
    oldest_go: (1, 26),
    // Without it, helm reports no version.
    linker_flags: "-s -w -X helm.sh/helm/v3/internal/version.version=v3.21.3",
    packages: &["tool"],
    sources: &["go.mod", "go.sum"],
    renamed: ("helm", "helm3"),
};

/// The module of which only sources are used.
const MONITORS: Module = Module {
    folder: "xtask/monitors",
    what: "the definitions of prometheus-operator",
    ..TOOLS
};

/// Returns the node's programs, kubectl and helm, and builds them if they are not cached.
///
/// # Errors
/// If there is no Go that is new enough, or the build fails.
pub(crate) fn ensure(workspace: &Workspace) -> Result<Programs> {
    NODE.build(workspace)
}

/// Returns the programs that check the chart, and builds them if they are not cached.
///
/// # Errors
/// As [`ensure`].
pub(crate) fn tools(workspace: &Workspace) -> Result<Programs> {
    TOOLS.build(workspace)
}

/// Returns the folder of prometheus-operator's definitions, a part of its sources.
///
/// # Errors
/// If there is no Go, or they cannot be downloaded.
pub(crate) fn monitors(workspace: &Workspace) -> Result<PathBuf> {
    let module = "github.com/prometheus-operator/prometheus-operator";
    let sources = MONITORS.download(workspace, module)?;
    Ok(sources.join("jsonnet/prometheus-operator"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_go_source_is_part_of_the_key() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tools");
        let entries = fs::read_dir(folder).unwrap().flatten();
        let mut found: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        found.sort();
        assert_eq!(found, TOOLS.sources);
    }
}
