//! What the alerts and the dashboard ask for is there.

use std::collections::BTreeSet;
use std::fs;

use crate::cluster::Namespace;
use crate::definition::Shared;
use crate::helm::{Helm, chart};
use crate::queue::{self, get};

#[test]
fn each_metric_of_the_alerts_and_the_dashboard_is_one_of_a_real_queue_or_operator() {
    let _shared = Shared::hold();
    let namespace = &Namespace::new("metrics");
    let chart = chart();
    Helm::Four.install(namespace, "seen", &[]).unwrap();
    queue::start(namespace, 2);
    // Some things are told only once they have happened: a turn at the leader,
    // and one at the other, who asks the leader.
    let ports = queue::addresses(namespace, queue::PODS, 80);
    assert_eq!(ports.len(), 2);
    for (shard, port) in ports.into_iter().enumerate() {
        get(port, &format!("/?shard={shard}")).unwrap();
    }

    let operator = queue::addresses(
        namespace,
        "app.kubernetes.io/name=gateway-queue-operator",
        8080,
    );
    let queues = queue::addresses(namespace, queue::PODS, 9090);
    let there: BTreeSet<String> = [operator, queues]
        .concat()
        .into_iter()
        .flat_map(|port| names_told(&get(port, "/metrics").unwrap()))
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
/// without its `_total` there.
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
