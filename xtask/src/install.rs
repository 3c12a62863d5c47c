//! Installs the chart as users do.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::kubernetes::wait_for;
use crate::process;
use crate::target::Target;
use crate::workspace::Workspace;

/// The name of the release, and the namespace of the operator.
pub(crate) const RELEASE: &str = "gateway-queue-operator";
pub(crate) const NAMESPACE: &str = "gateway-queue-system";

/// How a release of ours is told from a user's.
const OURS: &str = "installed by cargo xtask";

/// `helm install`, or `helm upgrade` of what an earlier command installed.
///
/// # Errors
/// When helm fails, or the operator does not become ready within two minutes.
pub(crate) fn operator(workspace: &Workspace, target: &Target) -> Result<()> {
    let kubernetes = &target.kubernetes;
    workspace.progress.say("helm install: the operator");
    look_before(target)?;
    let chart = workspace.root.join("charts/gateway-queue-operator");
    let values = values(target)?;
    install(target, &chart, &values)?;
    // Helm does not wait long enough for what comes after a CRD.
    wait_for(
        "the API server to serve GatewayQueues",
        Duration::from_secs(30),
        || {
            kubernetes.kubectl(&["get", "gatewayqueues", "--all-namespaces"])?;
            Ok(Some(()))
        },
    )
}

fn values(target: &Target) -> Result<Vec<String>> {
    let mut values = vec![
        format!("image.tag={}", target.image("gateway-queue-operator")?.tag),
        format!("queueImage.tag={}", target.image("gateway-queue")?.tag),
    ];
    match &target.registry {
        Some(registry) => values.push(format!("global.imageRegistry={registry}")),
        None => values.extend(
            [
                "image.repository=gateway-queue-operator",
                "queueImage.repository=gateway-queue",
            ]
            .map(str::to_owned),
        ),
    }
    Ok(values)
}

fn install(target: &Target, chart: &Path, values: &[String]) -> Result<()> {
    let chart = chart.display().to_string();
    let mut arguments = vec!["upgrade", "--install", RELEASE, &chart];
    arguments.extend(["--namespace", NAMESPACE, "--create-namespace"]);
    arguments.extend(["--wait", "--timeout", "2m", "--description", OURS]);
    for value in values {
        arguments.extend(["--set-string", value]);
    }
    if target.own {
        // A test of the chart that was killed leaves the CRD to its release, and
        // a person who applied one by hand is an owner of its fields.
        arguments.extend(["--take-ownership", "--force-conflicts"]);
    }
    process::output(&mut target.kubernetes.helm(&arguments))
        .map(|_| ())
        .context("installing the chart")
}

/// A helm that was killed leaves a release that no other helm touches. On a
/// cluster that is not our node, a release of the same name may be the user's.
fn look_before(target: &Target) -> Result<()> {
    let kubernetes = &target.kubernetes;
    let status = [
        "status",
        RELEASE,
        "--namespace",
        NAMESPACE,
        "--output",
        "json",
    ];
    let Ok(status) = process::output(&mut kubernetes.helm(&status)) else {
        return Ok(());
    };
    let status: Value = serde_json::from_str(&status).context("reading helm's status")?;
    let ours = status["info"]["description"] == OURS;
    if !target.own && !ours {
        bail!(
            "the cluster has a release {RELEASE} in {NAMESPACE} that no demo or test installed; \
             it is left alone, and the demo needs a cluster without one"
        );
    }
    if status["info"]["status"] == "deployed" {
        return Ok(());
    }
    // The chart keeps its CRD, and with it every GatewayQueue.
    let uninstall = ["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait"];
    process::output(&mut kubernetes.helm(&uninstall))
        .map(|_| ())
        .context("removing a release that was left half-done")
}
