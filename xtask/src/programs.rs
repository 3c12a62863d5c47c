//! The programs that check the chart, and definitions that xtask downloads.

use std::path::PathBuf;

use anyhow::Result;
use testnode::host::Workspace;
use testnode::programs::Module;

/// The programs that check the chart: helm3, helm-unittest and helm-docs.
pub(crate) const TOOLS: Module = Module {
    name: "tools",
    folder: "xtask/tools",
    what: "the chart's tools",
    notice: "helm 3, helm-unittest, helm-docs (about 3 minutes on 2 cores, once)",
    // helm-unittest needs it.
    oldest_go: (1, 26),
    // Without it, helm reports no version.
    linker_flags: "-s -w -X helm.sh/helm/v3/internal/version.version=v3.21.3",
    packages: &["tool"],
    renamed: ("helm", "helm3"),
};

/// The module of which only sources are used.
const MONITORS: Module = Module {
    folder: "xtask/monitors",
    what: "the definitions of prometheus-operator",
    ..TOOLS
};

/// Returns the folder of prometheus-operator's definitions, a part of its sources.
pub(crate) fn monitors(workspace: &Workspace) -> Result<PathBuf> {
    let module = "github.com/prometheus-operator/prometheus-operator";
    let sources = MONITORS.download(workspace, module)?;
    Ok(sources.join("jsonnet/prometheus-operator"))
}
