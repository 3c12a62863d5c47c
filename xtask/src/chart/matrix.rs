//! The chart with many values, checked as the API server would.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{CRD, Check, schemas};
use crate::interrupt;
use crate::programs;
use crate::target;

/// Values that change which objects there are, or their shape. Each is rendered
/// by itself and together with all that can go with it.
const VALUES: &[&[&str]] = &[
    &[],
    &[
        "global.imageRegistry=registry.example.com",
        "global.imagePullSecrets={one,two}",
    ],
    &[
        "image.registry=a.example.com",
        "image.digest=sha256:0000000000000000000000000000000000000000000000000000000000000000",
    ],
    &[
        "image.pullPolicy=",
        "queueImage.pullPolicy=",
        "image.tag=v1",
        "queueImage.tag=v2",
    ],
    &[
        "image.pullSecrets[0].name=one",
        "queueImage.pullSecrets[0].name=two",
        "imagePullSecrets[0].name=three",
    ],
    &["crds.enabled=false"],
    &["crds.keep=false"],
    &["watchNamespaces={bots}"],
    &["watchNamespaces={bots,shop}"],
    &["rbac.create=false"],
    &["rbac.aggregateClusterRoles=false"],
    &["serviceAccount.create=false"],
    &["serviceAccount.name=mine", "serviceAccount.annotations.a=b"],
    &["replicas=0"],
    &["replicas=3"],
    &["replicas=3", "podDisruptionBudget.maxUnavailable=50%"],
    &["replicas=3", "podDisruptionBudget.enabled=false"],
    &[
        "extraArgs={--log-format=json}",
        "extraEnv[0].name=A",
        "extraEnv[0].value=b",
        "extraEnv[1].name=NODE",
        "extraEnv[1].valueFrom.fieldRef.fieldPath=spec.nodeName",
    ],
    &["resources=null"],
    &[
        "commonLabels.team=bots",
        "podLabels.a=b",
        "podAnnotations.c=d",
        "deploymentAnnotations.e=f",
    ],
    &[
        "nodeSelector.disk=ssd",
        "tolerations[0].operator=Exists",
        "priorityClassName=high",
    ],
    &[
        "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key=a",
        "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].operator=Exists",
    ],
    &[
        "topologySpreadConstraints[0].maxSkew=1",
        "topologySpreadConstraints[0].topologyKey=zone",
        "topologySpreadConstraints[0].whenUnsatisfiable=ScheduleAnyway",
    ],
    &[
        "service.port=9000",
        "service.labels.a=b",
        "service.annotations.c=d",
        "adminPort=9999",
    ],
    &["networkPolicy.enabled=true"],
    &[
        "networkPolicy.enabled=true",
        "networkPolicy.from[0].namespaceSelector.matchLabels.a=b",
        "networkPolicy.apiServerPorts={16443}",
    ],
    &[
        "podMonitor.renderMode=alwaysRender",
        "podMonitor.additionalLabels.release=prometheus",
        "podMonitor.scrapeTimeout=10s",
    ],
    &[
        "serviceMonitor.renderMode=alwaysRender",
        "serviceMonitor.additionalLabels.release=prometheus",
        "serviceMonitor.interval=",
    ],
    &[
        "prometheusRule.renderMode=alwaysRender",
        "prometheusRule.additionalLabels.release=prometheus",
        "prometheusRule.alertLabels.team=bots",
        "prometheusRule.disabled={GatewayQueueGrantsLate,GatewayQueueOperatorDown,GatewayQueueOperatorIdle,GatewayQueueOperatorErrors}",
    ],
    &[
        "dashboard.enabled=true",
        "dashboard.annotations.folder=Discord",
        "dashboard.namespace=grafana",
    ],
    &[
        "nameOverride=short",
        "logFormat=json",
        "logLevel=debug\\,kube=info",
    ],
    &["fullnameOverride=a-name-that-is-as-long-as-a-name-of-kubernetes-may-be-for-labels"],
];

/// Where values are shown to people.
const DOCS: &str = "docs/monitoring.md";

/// What makes the chart render all that it can: the background of each line.
const ALL: &[&str] = &[
    "podMonitor.renderMode=alwaysRender",
    "serviceMonitor.renderMode=alwaysRender",
    "prometheusRule.renderMode=alwaysRender",
    "dashboard.enabled=true",
    "networkPolicy.enabled=true",
    "replicas=2",
];

pub(super) fn check(check: &Check<'_>) -> Result<()> {
    let folder = check.scratch.path().join("schemas");
    fs::create_dir(&folder).context("creating a folder for schemas")?;
    schemas::of_api_server(check.kubernetes, &folder)?;
    let definition = check.workspace.root.join(CRD);
    schemas::of_our_own(check.kubernetes, &definition, &folder)?;
    schemas::of_monitors(&programs::monitors(check.workspace)?, &folder)?;
    let rendered = check.scratch.path().join("rendered");
    fs::create_dir(&rendered).context("creating a folder for what is rendered")?;
    let mut count = 0;
    for (number, values) in VALUES.iter().enumerate() {
        interrupt::check()?;
        for (background, name) in [(&[][..], "alone"), (ALL, "all")] {
            let sets: Vec<String> = [background, values]
                .concat()
                .iter()
                .map(|value| format!("--set={value}"))
                .collect();
            let mut arguments = vec!["--namespace=discord"];
            arguments.extend(sets.iter().map(String::as_str));
            let [three, four] = &check.helms;
            let text = check.render(four, &arguments)?;
            if text != check.render(three, &arguments)? {
                bail!("helm 3 and helm 4 render different things with {values:?}");
            }
            no_cluster_scope(&text, values)?;
            let file = rendered.join(format!("{number:02}-{name}.yaml"));
            fs::write(&file, text).context("writing what is rendered")?;
            count += 1;
        }
    }
    count += shown_values(check, &rendered)?;
    let said = conform(check, &folder, &rendered)?;
    let progress = &check.workspace.progress;
    progress.say(format!("  {count} renderings: {}", said.trim()));
    examples_conform(check, &folder)
}

/// With a list of namespaces nothing but the definition is for the whole cluster.
fn no_cluster_scope(text: &str, values: &[&str]) -> Result<()> {
    let scoped = values
        .iter()
        .any(|value| value.starts_with("watchNamespaces="));
    let whole = text
        .lines()
        .find(|line| line.starts_with("kind: ClusterRole"));
    match whole {
        Some(line) if scoped => bail!("with {values:?} there is a `{line}`"),
        _ => Ok(()),
    }
}

/// The values that the docs show, as people would use them.
fn shown_values(check: &Check<'_>, rendered: &Path) -> Result<usize> {
    let text = target::read(check.workspace, DOCS)?;
    let blocks: Vec<&str> = yaml_blocks(&text).collect();
    if blocks.is_empty() {
        bail!("{DOCS} shows no values: how are they fenced?");
    }
    for (number, values) in blocks.iter().enumerate() {
        let file = check.scratch.path().join(format!("shown-{number}.yaml"));
        fs::write(&file, values).context("writing values")?;
        let values = format!("--values={}", file.display());
        let background: Vec<String> = ALL.iter().map(|v| format!("--set={v}")).collect();
        let mut arguments = vec!["--namespace=discord", &values];
        arguments.extend(background.iter().map(String::as_str));
        for (helm, number) in check.helms.iter().zip([3, 4]) {
            let text = check.render(helm, &arguments)?;
            let file = rendered.join(format!("{}-{number}.yaml", file_name(&file)));
            fs::write(file, text).context("writing what is rendered")?;
        }
    }
    Ok(2 * blocks.len())
}

fn file_name(path: &Path) -> String {
    let name = path.file_stem().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn yaml_blocks(text: &str) -> impl Iterator<Item = &str> {
    let rest = text.split("\n```yaml\n").skip(1);
    rest.filter_map(|block| Some(block.split_once("\n```")?.0))
}

fn examples_conform(check: &Check<'_>, schemas: &Path) -> Result<()> {
    conform(check, schemas, &check.workspace.root.join("examples")).map(|_| ())
}

fn conform(check: &Check<'_>, schemas: &Path, what: &Path) -> Result<String> {
    let mut kubeconform = Command::new(check.tools.path("kubeconform"));
    kubeconform
        .args(["-strict", "-summary", "-schema-location"])
        .arg(schemas.join(schemas::LOCATION))
        .arg(what);
    let out = kubeconform.output().context("starting kubeconform")?;
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    if !out.status.success() {
        bail!("{said}{}", String::from_utf8_lossy(&out.stderr));
    }
    if said.contains(" 0 resources") || !said.contains("Skipped: 0") {
        bail!("kubeconform looked at nothing, or left something out: {said}");
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_between_their_fences() {
        let text = "a\n```yaml\nb: c\n```\nd\n```console\n$ e\n```\n";
        assert_eq!(yaml_blocks(text).collect::<Vec<_>>(), ["b: c"]);
    }

    #[test]
    fn a_cluster_role_beside_a_list_of_namespaces_is_found() {
        let text = "kind: ClusterRoleBinding\n";
        assert!(no_cluster_scope(text, &["watchNamespaces={a}"]).is_err());
        assert!(no_cluster_scope(text, &["replicas=1"]).is_ok());
    }
}
