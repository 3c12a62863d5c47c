//! The chart as a dependency of another chart, in two releases of one name.

use std::fs;
use std::path::Path;
use std::thread;

use crate::cluster::{
    Namespace, apply_queue, checkout, get_through_service, kubectl, namespace, without_discord,
};
use crate::definition::shared;
use crate::helm::{Helm, WAIT, chart, watch};

/// The prefix of the chart's values in the parent.
const PREFIX: &str = "gateway-queue-operator.";

#[test]
fn two_releases_of_a_parent_with_its_own_globals_serve_a_namespace_each() {
    let _shared = shared();
    let folder = tempfile::tempdir().unwrap();
    write_parent(folder.path());
    let parent = &folder.path().display().to_string();
    let namespaces = Helm::BOTH.map(|helm| namespace(&helm.name("parent")));
    let pairs = || Helm::BOTH.into_iter().zip(&namespaces);
    let first = &namespaces[0];
    let build = format!("dependency build {parent}");
    Helm::Three.run(first, &build).unwrap();

    thread::scope(|scope| {
        for (helm, namespace) in pairs() {
            scope.spawn(move || release(helm, namespace, parent));
        }
    });
    let ours = "--selector=app.kubernetes.io/instance=bots";
    let get = format!("get clusterroles,clusterrolebindings {ours} --output=name");
    assert_eq!(kubectl(&get).unwrap(), "");

    let uninstall = "uninstall bots --wait";
    Helm::Three.run(first, uninstall).unwrap();
    Helm::Four.test(&namespaces[1], "bots");
}

fn release(helm: Helm, namespace: &Namespace, parent: &str) {
    let off = format!("--set={PREFIX}enabled=false");
    let install = format!("install bots {parent} {off}");
    helm.apply(namespace, PREFIX, &install).unwrap();
    let operator = "--selector=app.kubernetes.io/name=gateway-queue-operator";
    let operators = format!("get deployments {operator} --output=name");
    assert_eq!(namespace.kubectl(&operators).unwrap(), "");
    let configuration = "get configmap/of-the-parent";
    namespace.kubectl(configuration).unwrap();

    let watch = watch(PREFIX, namespace);
    let upgrade = format!("upgrade bots {parent} {watch} {WAIT}");
    helm.apply(namespace, PREFIX, &upgrade).unwrap();
    assert_eq!(
        namespace.kubectl(&operators).unwrap(),
        "deployment.apps/bots-gateway-queue-operator\n"
    );
    apply_queue(namespace, "bot", &without_discord());
    helm.test(namespace, "bots");
    namespace.wait_until_ready("bot");
    let service = "bots-gateway-queue-operator-metrics:admin";
    let ready = get_through_service(namespace, service, "readyz");
    assert_eq!(ready, "ok\n");
    let budget = "get poddisruptionbudget/bots-gateway-queue-operator";
    namespace.kubectl(budget).unwrap();
}

/// Copies the parent, with the version and the path of the chart.
fn write_parent(folder: &Path) {
    let chart = chart();
    let description = fs::read_to_string(format!("{chart}/Chart.yaml")).unwrap();
    let mut lines = description.lines();
    let version = lines.find_map(|line| line.strip_prefix("version: "));
    fs::create_dir(folder.join("templates")).unwrap();
    for name in ["Chart.yaml", "values.yaml", "templates/own.yaml"] {
        let file = checkout(&format!("e2e/tests/chart/parent/{name}"));
        let text = fs::read_to_string(file).unwrap();
        let text = text
            .replace("VERSION", version.unwrap())
            .replace("CHART", &chart);
        fs::write(folder.join(name), text).unwrap();
    }
}
