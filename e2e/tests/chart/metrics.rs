//! What the alerts and the dashboard ask for is there.

use std::collections::BTreeSet;
use std::fs;

use crate::cluster::{Namespace, kubectl, wait_for};
use crate::definition::Definition;
use crate::helm::{Helm, chart};

#[test]
fn each_metric_of_the_alerts_and_the_dashboard_is_one_of_a_real_queue_or_operator() {
    let _definition = Definition::present();
    let namespace = &Namespace::new("metrics");
    let watch = format!("--set=watchNamespaces={{{}}}", namespace.name());
    let chart = chart();
    let install = [
        "install",
        "seen",
        &chart,
        "--set=crds.enabled=false",
        &watch,
    ];
    Helm::Four
        .apply(
            namespace,
            &[&install[..], &["--wait", "--timeout=5m"]].concat(),
        )
        .unwrap();
    namespace.apply_queue("bot");
    namespace.wait_until_ready("bot");

    let place = format!("/api/v1/namespaces/{}", namespace.name());
    let pod = [
        "get",
        "pods",
        "--selector=app.kubernetes.io/instance=bot",
        "--output=jsonpath={.items[0].metadata.name}",
    ];
    let pod = namespace.kubectl(&pod).unwrap();
    let operator =
        format!("{place}/services/seen-gateway-queue-operator-metrics:admin/proxy/metrics");
    let queue = format!("{place}/pods/{pod}:9090/proxy/metrics");
    // An endpoint comes a moment after its pod.
    let page = |path: &str| wait_for(path, || kubectl(&["get", "--raw", path]));
    let there: BTreeSet<String> = [page(&operator), page(&queue)]
        .iter()
        .flat_map(|page| names_told(page))
        .collect();

    let mut asked = BTreeSet::new();
    for file in ["files/alerts.yaml", "files/dashboard.json"] {
        let text = fs::read_to_string(format!("{chart}/{file}")).unwrap();
        asked.extend(names_asked(&text));
    }
    assert!(asked.len() > 15, "too few are asked for: {asked:?}");
    let missing: Vec<&String> = asked.difference(&there).collect();
    assert!(
        missing.is_empty(),
        "{missing:?} are not told; told are {there:?}"
    );
    Helm::Four
        .run(namespace, &["uninstall", "seen", "--wait"])
        .unwrap();
}

/// The names by which Prometheus knows what a page tells. A counter is named
/// without its `_total` there. What is not known, such as max_concurrency before
/// Discord has told it, may be absent, but is described.
fn names_told(page: &str) -> Vec<String> {
    let mut names = Vec::new();
    for line in page.lines() {
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' '))
        else {
            continue;
        };
        match kind {
            "counter" => names.push(format!("{name}_total")),
            "histogram" => {
                names.extend(["bucket", "count", "sum"].map(|end| format!("{name}_{end}")));
            }
            _ => names.push(name.to_owned()),
        }
    }
    names
}

fn names_asked(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("gateway_queue_"))
        .map(str::to_owned)
}
