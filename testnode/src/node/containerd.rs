//! The node's containerd.

use std::path::Path;

use anyhow::Result;

use super::layout::CONTAINERD;
use crate::host::process;

/// Runs `ctr` and returns its output.
pub(crate) fn run(arguments: &[&str]) -> Result<String> {
    let mut ctr = process::command("ctr");
    ctr.args(["--address", CONTAINERD, "--namespace", "k8s.io"])
        .args(["--connect-timeout", "2s"])
        .args(arguments);
    process::output(&mut ctr)
}

/// Imports an image from a file.
pub(crate) fn import(archive: &Path) -> Result<()> {
    run(&["images", "import", &archive.display().to_string()]).map(drop)
}

/// Returns containerd's name of an image whose name has no registry.
pub(crate) fn full_name(reference: &str) -> String {
    if reference.contains('/') {
        format!("docker.io/{reference}")
    } else {
        format!("docker.io/library/{reference}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_the_full_name_that_containerd_gives_it() {
        let [short, long] = ["gateway-queue:1", "gateway-queue-node/pause:1"].map(full_name);
        assert_eq!(short, "docker.io/library/gateway-queue:1");
        assert_eq!(long, "docker.io/gateway-queue-node/pause:1");
    }
}
