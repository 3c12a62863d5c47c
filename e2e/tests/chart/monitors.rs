//! With the definitions of prometheus-operator in the cluster.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{Namespace, kubectl, variable, wait_for};
use crate::definition::Definition;
use crate::helm::Helm;

const KINDS: [&str; 3] = ["podmonitors", "prometheusrules", "servicemonitors"];

/// How long the API server may tell of a group that is gone.
const GONE: Duration = Duration::from_secs(60);

/// The definitions, removed when dropped, unless they were there before.
struct Monitors(Vec<String>);

impl Monitors {
    fn present() -> Self {
        let mut made = Self(Vec::new());
        for kind in KINDS {
            let name = format!("{kind}.monitoring.coreos.com");
            let get = ["get", "crd", &name, "--ignore-not-found", "--output=name"];
            if kubectl(&get).unwrap().is_empty() {
                let file = format!("{}/{kind}-crd.json", variable("MONITORS"));
                kubectl(&["create", "--filename", &file]).unwrap();
                made.0.push(name.clone());
            }
            kubectl(&["wait", "--for=condition=Established", "crd", &name]).unwrap();
        }
        made
    }
}

impl Drop for Monitors {
    fn drop(&mut self) {
        for name in &self.0 {
            let _ = kubectl(&["delete", "crd", name, "--timeout=60s"]);
        }
        // A chart that is installed next must not find what goes.
        let group = ["get", "--raw", "/apis/monitoring.coreos.com/v1"];
        let start = Instant::now();
        while !self.0.is_empty() && kubectl(&group).is_ok() && start.elapsed() < GONE {
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

#[test]
fn one_pod_monitor_finds_the_pods_of_all_queues_and_a_service_monitor_the_operator() {
    let _definition = Definition::borrow();
    let helm = Helm::Four;
    let namespace = &Namespace::new("monitors");
    let _monitors = Monitors::present();
    let must = [
        "--set=podMonitor.renderMode=failIfMissing",
        "--set=serviceMonitor.renderMode=failIfMissing",
        "--set=prometheusRule.renderMode=failIfMissing",
        "--set=dashboard.enabled=true",
    ];
    // What a cluster knows is told by the API server a moment later.
    wait_for("the release", || helm.install(namespace, "seen", &must));
    for queue in ["one", "two"] {
        namespace.apply_queue(queue);
    }
    for queue in ["one", "two"] {
        namespace.wait_until_ready(queue);
    }

    let monitor = get(namespace, "podmonitor/seen-gateway-queue-operator-queues");
    let pods = selected(namespace, "pods", &monitor);
    let mut found: Vec<&str> = pods.iter().filter_map(instance).collect();
    found.sort_unstable();
    assert_eq!(found, ["one", "two"]);
    let port = &monitor["spec"]["podMetricsEndpoints"][0]["port"];
    for pod in &pods {
        let ports = pod["spec"]["containers"][0]["ports"].as_array().unwrap();
        assert!(
            ports.iter().any(|there| there["name"] == *port),
            "{ports:?}"
        );
    }

    let monitor = get(namespace, "servicemonitor/seen-gateway-queue-operator");
    let services = selected(namespace, "services", &monitor);
    let [service] = &services[..] else {
        panic!("not one Service but {services:?}");
    };
    let port = &monitor["spec"]["endpoints"][0]["port"];
    assert_eq!(service["spec"]["ports"][0]["name"], *port);

    let rule = get(namespace, "prometheusrule/seen-gateway-queue-operator");
    // The alerts about the operator go by this label.
    let name = service["metadata"]["name"].as_str().unwrap();
    assert!(
        rule.to_string()
            .contains(&format!("service=\\\"{name}\\\"")),
        "{rule}"
    );
    get(namespace, "configmap/seen-gateway-queue-operator-dashboard");
    helm.run(namespace, &["uninstall", "seen", "--wait"])
        .unwrap();
}

fn get(namespace: &Namespace, what: &str) -> Value {
    let said = namespace.kubectl(&["get", what, "--output=json"]).unwrap();
    serde_json::from_str(&said).unwrap()
}

/// What the selector of a monitor finds.
fn selected(namespace: &Namespace, what: &str, monitor: &Value) -> Vec<Value> {
    let labels = monitor["spec"]["selector"]["matchLabels"]
        .as_object()
        .unwrap();
    let pairs = labels
        .iter()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap()));
    let selector = format!("--selector={}", pairs.collect::<Vec<_>>().join(","));
    let said = namespace
        .kubectl(&["get", what, &selector, "--output=json"])
        .unwrap();
    let list: Value = serde_json::from_str(&said).unwrap();
    list["items"].as_array().unwrap().clone()
}

fn instance(object: &Value) -> Option<&str> {
    object["metadata"]["labels"]["app.kubernetes.io/instance"].as_str()
}
