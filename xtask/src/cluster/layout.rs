//! The fixed places, names and addresses of the node. They are the same for
//! every checkout: there is one node a machine, and whoever comes next must find
//! what the last one left.

use std::net::Ipv4Addr;

/// What is gone after a restart of the machine: state, sockets, keys.
pub(crate) const RUN: &str = "/run/gateway-queue-node";
/// The node's disk: etcd, images, volumes.
pub(crate) const DISK: &str = "/var/lib/gateway-queue-node";
/// One log for each program. They stay when a start fails.
pub(crate) const LOGS: &str = "/var/log/gateway-queue-node";
/// Held by the one command that may change the node.
pub(crate) const LOCK: &str = "/run/gateway-queue-node.lock";
/// The administrator's access.
pub(crate) const KUBECONFIG: &str = "/run/gateway-queue-node/kubeconfig";
/// Where our containerd listens.
pub(crate) const CONTAINERD: &str = "/run/gateway-queue-node/containerd.sock";

/// The network namespace that holds the whole node.
pub(crate) const NETWORK: &str = "gateway-queue-node";
/// The host's end of the cable to the node.
pub(crate) const HOST_LINK: &str = "gq-host";
/// The node's end.
pub(crate) const NODE_LINK: &str = "eth0";
/// Every pod's cgroup is below this one.
pub(crate) const CGROUP: &str = "gateway-queue-node";
/// An argument of the node's first process, to find it by when all else is lost.
pub(crate) const MARK: &str = "gateway-queue-node-init";

/// The name of the Kubernetes node.
pub(crate) const NODE_NAME: &str = "node";
/// The host, as the node sees it.
pub(crate) const HOST_IP: Ipv4Addr = Ipv4Addr::new(10, 111, 0, 1);
/// The node, as everyone sees it.
pub(crate) const NODE_IP: Ipv4Addr = Ipv4Addr::new(10, 111, 0, 2);
/// The API server's Service, `kubernetes`.
pub(crate) const API_SERVICE_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// The Service of the cluster's DNS.
pub(crate) const DNS_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// The cable between host and node.
pub(crate) const CABLE: &str = "10.111.0.0/30";
/// Addresses of pods.
pub(crate) const PODS: &str = "10.244.0.0/16";
/// The part of them that the one node gets.
pub(crate) const NODE_PODS: &str = "10.244.0.0/24";
/// Addresses of Services.
pub(crate) const SERVICES: &str = "10.96.0.0/16";

/// Where the API server listens, for everyone.
pub(crate) fn api() -> String {
    format!("https://{NODE_IP}:6443")
}
