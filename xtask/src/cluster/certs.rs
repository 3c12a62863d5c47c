//! Who may do what: the node's certificates, and a kubeconfig for each user.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

use super::layout::{self, API_SERVICE_IP, NODE_IP, NODE_NAME};
use crate::files;
use crate::process;
use crate::programs::Programs;

/// Programs that talk to the API server, and the users that Kubernetes' own
/// rules know them by.
const CLIENTS: [(&str, &str, Option<&str>); 6] = [
    ("admin", "kubernetes-admin", Some("system:masters")),
    ("controller-manager", "system:kube-controller-manager", None),
    ("coredns", "system:coredns", None),
    ("kubelet", "system:node:node", Some("system:nodes")),
    ("proxy", "system:kube-proxy", None),
    ("scheduler", "system:kube-scheduler", None),
];

/// The path of a certificate (`NAME.crt`) or key (`NAME.key`).
pub(crate) fn path(file: &str) -> String {
    format!("{}/certs/{file}", layout::RUN)
}

/// The path of the kubeconfig of one of the node's programs.
pub(crate) fn kubeconfig_path(client: &str) -> String {
    path(&format!("{client}.kubeconfig"))
}

/// Makes new certificates, and the kubeconfigs that name them.
///
/// # Errors
/// When the folder cannot be written.
pub(crate) fn issue(programs: &Programs) -> Result<()> {
    let folder = format!("{}/certs", layout::RUN);
    fs::create_dir_all(&folder).with_context(|| format!("creating {folder}"))?;
    process::feed(
        Command::new(programs.path("certs")).arg(&folder),
        &requests().to_string(),
    )?;
    for (client, _, _) in CLIENTS {
        files::replace(
            kubeconfig_path(client).as_ref(),
            kubeconfig(client).as_bytes(),
            0o600,
        )?;
    }
    files::replace(
        layout::KUBECONFIG.as_ref(),
        kubeconfig("admin").as_bytes(),
        0o600,
    )
}

fn requests() -> serde_json::Value {
    let mut requests: Vec<_> = CLIENTS
        .iter()
        .map(|(file, user, group)| json!({ "file": file, "user": user, "groups": group.iter().collect::<Vec<_>>() }))
        .collect();
    requests.extend([
        json!({
            "file": "apiserver", "user": "kube-apiserver",
            "names": ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"],
            "ips": [NODE_IP, API_SERVICE_IP, "127.0.0.1"],
        }),
        // The API server asks the kubelet for logs and shells with this one.
        json!({ "file": "apiserver-kubelet", "user": "kube-apiserver-kubelet", "groups": ["system:masters"] }),
        json!({ "file": "kubelet-server", "user": format!("system:node:{NODE_NAME}"), "groups": ["system:nodes"],
                "names": [NODE_NAME], "ips": [NODE_IP] }),
        // Signs the tokens of ServiceAccounts; only its key counts.
        json!({ "file": "service-accounts", "user": "service-accounts" }),
    ]);
    json!(requests)
}

/// A kubeconfig that names the certificates by path: nothing secret is copied.
fn kubeconfig(client: &str) -> String {
    let (api, authority) = (layout::api(), path("ca.crt"));
    let (certificate, key) = (
        path(&format!("{client}.crt")),
        path(&format!("{client}.key")),
    );
    format!(
        "apiVersion: v1
kind: Config
current-context: gateway-queue-node
clusters:
  - name: gateway-queue-node
    cluster: {{server: \"{api}\", certificate-authority: {authority}}}
users:
  - name: {client}
    user: {{client-certificate: {certificate}, client-key: {key}}}
contexts:
  - name: gateway-queue-node
    context: {{cluster: gateway-queue-node, user: {client}}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_names_the_node_and_the_clients_own_certificate() {
        let text = kubeconfig("scheduler");
        assert!(text.contains("server: \"https://10.111.0.2:6443\""));
        assert!(text.contains("client-key: /run/gateway-queue-node/certs/scheduler.key"));
        assert!(!text.contains("insecure"));
    }

    #[test]
    fn the_kubelet_is_the_user_of_its_own_node() {
        let kubelet = CLIENTS
            .iter()
            .find(|(client, _, _)| *client == "kubelet")
            .unwrap();
        assert_eq!(kubelet.1, format!("system:node:{NODE_NAME}"));
    }

    #[test]
    fn only_the_administrator_is_above_the_rules() {
        let masters = CLIENTS
            .iter()
            .filter(|(_, _, group)| *group == Some("system:masters"));
        assert_eq!(
            masters.map(|(client, _, _)| *client).collect::<Vec<_>>(),
            ["admin"]
        );
    }
}
