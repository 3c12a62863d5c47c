//! The node's folders and names. They are the same for every checkout: a machine has one
//! node, and any checkout must be able to find and remove it.

/// Configuration, state, sockets and keys; gone after a restart of the machine.
pub(crate) const RUN: &str = "/run/gateway-queue-node";
/// The node's disk: etcd, images, volumes.
pub(crate) const DISK: &str = "/var/lib/gateway-queue-node";
/// One log for each program. They are kept if a start fails.
pub(crate) const LOGS: &str = "/var/log/gateway-queue-node";
/// The lock of the command that changes the node.
pub(crate) const LOCK: &str = "/run/gateway-queue-node.lock";
/// The administrator's kubeconfig.
pub(crate) const KUBECONFIG: &str = "/run/gateway-queue-node/kubeconfig";
/// The socket of the node's containerd.
pub(crate) const CONTAINERD: &str = "/run/gateway-queue-node/containerd.sock";

/// The network namespace of the node.
pub(crate) const NETWORK: &str = "gateway-queue-node";
/// The host's end of the link to the node.
pub(crate) const HOST_LINK: &str = "gq-host";
/// The node's end.
pub(crate) const NODE_LINK: &str = "eth0";
/// The parent of all pods' cgroups.
pub(crate) const CGROUP: &str = "gateway-queue-node";
/// An argument of the node's first process, by which it is found.
pub(crate) const MARK: &str = "gateway-queue-node-init";

/// The name of the Kubernetes node.
pub(crate) const NODE_NAME: &str = "node";
