//! Installs the chart as users do.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use testnode::host::Workspace;

use crate::kubernetes::wait_for;
use crate::target::Target;

/// The name of the release, and the namespace of the operator.
pub(crate) const RELEASE: &str = "gateway-queue-operator";
pub(crate) const NAMESPACE: &str = "gateway-queue-system";

/// The description of releases that the demo and the tests install.
const OURS: &str = "installed by cargo xtask";

/// Installs the operator, or upgrades the release of an earlier command.
pub(crate) fn operator(workspace: &Workspace, target: &Target) -> Result<()> {
    let kubernetes = &target.kubernetes;
    workspace.progress.print("helm install: the operator");
    check_release(target)?;
    let chart = workspace.root.join("charts/gateway-queue-operator");
    let chart = chart.display().to_string();
    let mut values = vec![
        format!("image.tag={}", target.image("gateway-queue-operator")?.tag),
        format!("queueImage.tag={}", target.image("gateway-queue")?.tag),
    ];
    if let Some(registry) = &target.registry {
        values.push(format!("global.imageRegistry={registry}"));
    } else {
        values.push("image.repository=gateway-queue-operator".to_owned());
        values.push("queueImage.repository=gateway-queue".to_owned());
    }
    let mut arguments = vec!["upgrade", "--install", RELEASE, &chart];
    arguments.extend(["--namespace", NAMESPACE, "--create-namespace"]);
    arguments.extend(["--wait", "--timeout", "2m", "--description", OURS]);
    for value in &values {
        arguments.extend(["--set-string", value]);
    }
    if target.own {
        // A killed test of the chart leaves a CRD that belongs to its release, and a CRD
        // that was applied by hand has another field manager.
        arguments.extend(["--take-ownership", "--force-conflicts"]);
    }
    kubernetes
        .helm(&arguments)
        .context("installing the chart")?;
    // Helm does not wait for the API server to serve a new CRD.
    let list = ["get", "gatewayqueues", "--all-namespaces"];
    let served = || kubernetes.kubectl(&list).map(Some);
    let what = "the API server to serve GatewayQueues";
    wait_for(what, Duration::from_secs(30), served).map(drop)
}

/// Removes a release of a helm that was killed: another helm would refuse to change it.
/// Leaves a user's release alone, on a cluster that is not the test node.
fn check_release(target: &Target) -> Result<()> {
    let kubernetes = &target.kubernetes;
    let name = [RELEASE, "--namespace", NAMESPACE];
    let helm =
        |command, options: [&str; 1]| kubernetes.helm(&[&[command], &name[..], &options].concat());
    let Ok(status) = helm("status", ["--output=json"]) else {
        return Ok(());
    };
    let status: Value = serde_json::from_str(&status).context("parsing helm's status")?;
    let ours = status["info"]["description"] == OURS;
    if !target.own && !ours {
        bail!(
            "the cluster has a release {RELEASE} in {NAMESPACE} that no demo or test installed. \
             Use a cluster without one"
        );
    }
    if status["info"]["status"] == "deployed" {
        return Ok(());
    }
    // The chart keeps its CRD, and with it every GatewayQueue.
    helm("uninstall", ["--wait"])
        .map(drop)
        .context("removing an incomplete release")
}
