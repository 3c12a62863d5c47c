//! The node's certificates, and a kubeconfig for each client of the API server.

use std::process::Command;

use anyhow::Result;
use serde_json::json;

use super::layout::{self, NODE_NAME};
use crate::NetworkSettings;
use crate::host::{files, process};
use crate::programs::Programs;

/// The clients of the API server, with the user and group that Kubernetes' default roles
/// refer to.
const CLIENTS: [(&str, &str, Option<&str>); 6] = [
    ("admin", "kubernetes-admin", Some("system:masters")),
    ("controller-manager", "system:kube-controller-manager", None),
    ("coredns", "system:coredns", None),
    ("kubelet", "system:node:node", Some("system:nodes")),
    ("proxy", "system:kube-proxy", None),
    ("scheduler", "system:kube-scheduler", None),
];

/// Returns the path of a certificate (`NAME.crt`) or key (`NAME.key`).
pub(crate) fn path(file: &str) -> String {
    format!("{}/certs/{file}", layout::RUN)
}

/// Returns the path of the kubeconfig of one of the node's programs.
pub(crate) fn kubeconfig_path(client: &str) -> String {
    path(&format!("{client}.kubeconfig"))
}

/// Creates new certificates, and the kubeconfigs that refer to them.
pub(crate) fn issue(programs: &Programs, settings: &NetworkSettings) -> Result<()> {
    let folder = format!("{}/certs", layout::RUN);
    files::create_folder(&folder)?;
    process::feed(
        Command::new(programs.path("certs")).arg(&folder),
        &requests(settings).to_string(),
    )?;
    let mut files = vec![(layout::KUBECONFIG.to_owned(), "admin")];
    files.extend(CLIENTS.map(|(client, _, _)| (kubeconfig_path(client), client)));
    for (path, client) in files {
        let text = kubeconfig(client, settings);
        files::replace(path.as_ref(), text.as_bytes(), 0o600)?;
    }
    Ok(())
}

fn requests(settings: &NetworkSettings) -> serde_json::Value {
    let mut requests: Vec<_> = CLIENTS
        .iter()
        .map(|(file, user, group)| json!({ "file": file, "user": user, "groups": group.iter().collect::<Vec<_>>() }))
        .collect();
    requests.extend([
        json!({
            "file": "apiserver", "user": "kube-apiserver",
            "names": ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"],
            "ips": [settings.node, settings.api_service, "127.0.0.1"],
        }),
        // For requests of the API server to the kubelet, such as for logs.
        json!({ "file": "apiserver-kubelet", "user": "kube-apiserver-kubelet", "groups": ["system:masters"] }),
        json!({ "file": "kubelet-server", "user": format!("system:node:{NODE_NAME}"), "groups": ["system:nodes"],
                "names": [NODE_NAME], "ips": [settings.node] }),
        // Signs the tokens of ServiceAccounts: only its key is used.
        json!({ "file": "service-accounts", "user": "service-accounts" }),
    ]);
    json!(requests)
}

/// Returns a kubeconfig that refers to the certificates by path.
fn kubeconfig(client: &str, settings: &NetworkSettings) -> String {
    let (api, authority) = (settings.api_url(), path("ca.crt"));
    let [certificate, key] = ["crt", "key"].map(|end| path(&format!("{client}.{end}")));
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
        let text = kubeconfig("scheduler", &NetworkSettings::IPV4);
        assert!(text.contains("server: \"https://10.111.0.2:6443\""));
        assert!(text.contains("client-key: /run/gateway-queue-node/certs/scheduler.key"));
        assert!(!text.contains("insecure"));
    }

    #[test]
    fn only_the_administrator_bypasses_the_roles_and_the_kubelet_has_the_nodes_name() {
        for (client, user, group) in CLIENTS {
            let is_master = group == Some("system:masters");
            assert_eq!(is_master, client == "admin", "{client}");
            if client == "kubelet" {
                assert_eq!(user, format!("system:node:{NODE_NAME}"));
            }
        }
    }
}
