//! The chart as a part of another.

use std::fs;
use std::path::Path;

use crate::cluster::Namespace;
use crate::definition::Shared;
use crate::helm::{Helm, chart};

/// The values of ours are under its name.
const PREFIX: &str = "gateway-queue-operator.";

#[test]
fn with_helm_3_it_is_a_subchart_of_a_parent_with_its_own_global_and_a_condition() {
    is_a_subchart(Helm::Three);
}

#[test]
fn with_helm_4_it_is_a_subchart_of_a_parent_with_its_own_global_and_a_condition() {
    is_a_subchart(Helm::Four);
}

fn is_a_subchart(helm: Helm) {
    let _shared = Shared::hold();
    let namespace = &Namespace::new(&format!("parent-{}", helm.number()));
    let folder = tempfile::tempdir().unwrap();
    write_parent(folder.path());
    let parent = folder.path().display().to_string();
    helm.run(namespace, &["dependency", "build", &parent])
        .unwrap();

    let off = format!("--set={PREFIX}enabled=false");
    helm.apply_below(namespace, PREFIX, &["install", "bots", &parent, &off])
        .unwrap();
    assert_eq!(deployments(namespace), "");
    namespace
        .kubectl(&["get", "configmap/of-the-parent"])
        .unwrap();

    let watch = format!("--set={PREFIX}watchNamespaces={{{}}}", namespace.name());
    let on = ["upgrade", "bots", &parent, &watch, "--wait", "--timeout=5m"];
    helm.apply_below(namespace, PREFIX, &on).unwrap();
    assert_eq!(
        deployments(namespace),
        "deployment.apps/bots-gateway-queue-operator\n"
    );
    helm.test(namespace, "bots");
    namespace.apply_queue("bot");
    namespace.wait_until_ready("bot");
    helm.run(namespace, &["uninstall", "bots", "--wait"])
        .unwrap();
}

fn deployments(namespace: &Namespace) -> String {
    let operator = "--selector=app.kubernetes.io/name=gateway-queue-operator";
    let get = ["get", "deployments", operator, "--output=name"];
    namespace.kubectl(&get).unwrap()
}

fn write_parent(folder: &Path) {
    let chart = chart();
    let description = fs::read_to_string(format!("{chart}/Chart.yaml")).unwrap();
    let version = description
        .lines()
        .find_map(|line| line.strip_prefix("version: "));
    let version = version.unwrap();
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    write(
        "Chart.yaml",
        &format!(
            "apiVersion: v2\nname: parent\nversion: 1.0.0\ndependencies:\n- name: gateway-queue-operator\n  version: {version}\n  repository: file://{chart}\n  condition: gateway-queue-operator.enabled\n"
        ),
    );
    write(
        "values.yaml",
        "global:\n  imageRegistry: \"\"\n  postgresql: {auth: {username: bots}}\ngateway-queue-operator:\n  enabled: true\n  crds: {enabled: false}\n",
    );
    fs::create_dir(folder.join("templates")).unwrap();
    write(
        "templates/own.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: of-the-parent\ndata:\n  user: {{ .Values.global.postgresql.auth.username }}\n",
    );
}
