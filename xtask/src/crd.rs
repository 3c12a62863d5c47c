//! `cargo xtask crd`: the CustomResourceDefinition, generated from the operator's type.

use anyhow::{Result, bail};
use testnode::host::{Workspace, files, process};

use crate::cargo;

/// The file for people and tests, and the one that the chart renders.
const COPIES: [&str; 2] = [
    "crds/gatewayqueue.dev_gatewayqueues.yaml",
    "charts/gateway-queue-operator/files/gatewayqueues.yaml",
];

/// Writes both copies.
pub(crate) fn generate(workspace: &Workspace) -> Result<()> {
    let progress = &workspace.progress;
    progress.print("generating the CRD from the operator's type");
    let mut cargo = cargo(workspace);
    let package = ["--package", "gateway-queue-operator", "--example", "crd"];
    let yaml = process::output(cargo.args(["run", "--quiet"]).args(package))?;
    if !yaml.contains("CustomResourceDefinition") {
        let bytes = yaml.len();
        bail!("the example crd printed no CustomResourceDefinition, but {bytes} other bytes");
    }
    for copy in COPIES {
        files::replace(&workspace.root.join(copy), yaml.as_bytes(), 0o644)?;
        progress.print(format!("wrote {copy}"));
    }
    Ok(())
}
