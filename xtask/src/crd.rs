//! `cargo xtask crd`: the schema, generated from the type.

use anyhow::{Result, bail};

use crate::files;
use crate::process;
use crate::workspace::Workspace;

/// The one for people and tests, and the one that the chart renders.
const COPIES: [&str; 2] = [
    "crds/gatewayqueue.dev_gatewayqueues.yaml",
    "charts/gateway-queue-operator/files/gatewayqueues.yaml",
];

/// Writes both copies.
///
/// # Errors
/// When the operator does not compile, or a file cannot be written.
pub(crate) fn generate(workspace: &Workspace) -> Result<()> {
    workspace
        .progress
        .say("generating the CRD from the operator's type");
    let mut cargo = process::cargo();
    cargo
        .args([
            "run",
            "--quiet",
            "--package",
            "gateway-queue-operator",
            "--example",
            "crd",
        ])
        .current_dir(&workspace.root);
    let yaml = process::output(&mut cargo)?;
    if !yaml.contains("CustomResourceDefinition") {
        bail!(
            "the example crd of gateway-queue-operator printed no CustomResourceDefinition; it printed {} bytes",
            yaml.len()
        );
    }
    for copy in COPIES {
        files::replace(&workspace.root.join(copy), yaml.as_bytes(), 0o644)?;
        workspace.progress.say(format!("wrote {copy}"));
    }
    Ok(())
}
