//! The node's programs: their arguments and their configuration. Pure text; who
//! wants to know what the node is made of reads this file.

use serde_json::json;

use super::certs::{kubeconfig_path, path as cert};
use super::layout::{
    CGROUP, CONTAINERD, DISK, DNS_IP, NETWORK, NODE_IP, NODE_NAME, NODE_PODS, PODS, RUN, SERVICES,
};

/// One program of the node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Component {
    /// Its name, and that of its log.
    pub(crate) name: &'static str,
    /// Where its binary comes from.
    pub(crate) origin: Origin,
    /// Its arguments.
    pub(crate) arguments: Vec<String>,
}

/// Where a program's binary comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Origin {
    /// Our Go module.
    Built,
    /// A package of the operating system.
    Installed,
}

/// A configuration file of the node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct File {
    /// Where it goes.
    pub(crate) path: String,
    /// What it says.
    pub(crate) text: String,
}

/// What differs from machine to machine.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// The folder of the network plugins.
    pub(crate) network_plugins: String,
    /// The pause image, as containerd names it.
    pub(crate) pause_image: String,
    /// How containerd stacks the layers of images.
    pub(crate) snapshotter: &'static str,
}

/// What runs before the API server can: its store, and the containers' runtime,
/// which takes as long.
pub(crate) fn foundation() -> [Component; 2] {
    [
        built(
            "etcd",
            &[
                format!("--data-dir={DISK}/etcd"),
                // Only programs in the node's namespace reach its loopback; pods have
                // namespaces of their own.
                "--listen-client-urls=http://127.0.0.1:2379".into(),
                "--advertise-client-urls=http://127.0.0.1:2379".into(),
                "--listen-peer-urls=http://127.0.0.1:2380".into(),
                // The data does not outlive the node, so it need not be safe on disk.
                "--unsafe-no-fsync".into(),
            ],
        ),
        Component {
            name: "containerd",
            origin: Origin::Installed,
            arguments: vec![format!("--config={RUN}/containerd.toml")],
        },
    ]
}

/// The API server.
pub(crate) fn api_server() -> Component {
    built(
        "kube-apiserver",
        &[
            "--etcd-servers=http://127.0.0.1:2379".into(),
            format!("--advertise-address={NODE_IP}"),
            format!("--service-cluster-ip-range={SERVICES}"),
            "--anonymous-auth=false".into(),
            "--authorization-mode=Node,RBAC".into(),
            // Some platforms (OpenShift) have the second one on: it refuses owner references
            // to who may not delete the object.
            "--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement"
                .into(),
            format!("--client-ca-file={}", cert("ca.crt")),
            format!("--tls-cert-file={}", cert("apiserver.crt")),
            format!("--tls-private-key-file={}", cert("apiserver.key")),
            format!("--kubelet-certificate-authority={}", cert("ca.crt")),
            format!(
                "--kubelet-client-certificate={}",
                cert("apiserver-kubelet.crt")
            ),
            format!("--kubelet-client-key={}", cert("apiserver-kubelet.key")),
            "--kubelet-preferred-address-types=InternalIP".into(),
            // Nobody may speak for others, as no certificate has this name. Without
            // the setting controller manager and scheduler look for it for ever.
            format!("--requestheader-client-ca-file={}", cert("ca.crt")),
            "--requestheader-allowed-names=nobody".into(),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
            format!(
                "--service-account-key-file={}",
                cert("service-accounts.crt")
            ),
            format!(
                "--service-account-signing-key-file={}",
                cert("service-accounts.key")
            ),
        ],
    )
}

/// Everything that needs the API server.
pub(crate) fn clients() -> [Component; 5] {
    let controller_manager = kubeconfig_path("controller-manager");
    [
        built(
            "kubelet",
            &[
                format!("--config={RUN}/kubelet.json"),
                format!("--kubeconfig={}", kubeconfig_path("kubelet")),
                format!("--hostname-override={NODE_NAME}"),
                format!("--node-ip={NODE_IP}"),
            ],
        ),
        built(
            "kube-controller-manager",
            &[
                format!("--kubeconfig={controller_manager}"),
                format!("--authentication-kubeconfig={controller_manager}"),
                format!("--authorization-kubeconfig={controller_manager}"),
                "--use-service-account-credentials".into(),
                format!(
                    "--service-account-private-key-file={}",
                    cert("service-accounts.key")
                ),
                format!("--root-ca-file={}", cert("ca.crt")),
                format!("--cluster-signing-cert-file={}", cert("ca.crt")),
                format!("--cluster-signing-key-file={}", cert("ca.key")),
                "--allocate-node-cidrs".into(),
                format!("--cluster-cidr={PODS}"),
                format!("--service-cluster-ip-range={SERVICES}"),
                // There is no second one to elect against, and electing takes time.
                "--leader-elect=false".into(),
                // The limits of the kubelet and the scheduler. With the default of 20 requests a
                // second, the garbage collector falls behind while many tests end.
                "--kube-api-qps=50".into(),
                "--kube-api-burst=100".into(),
            ],
        ),
        built(
            "kube-scheduler",
            &[
                format!("--kubeconfig={}", kubeconfig_path("scheduler")),
                format!(
                    "--authentication-kubeconfig={}",
                    kubeconfig_path("scheduler")
                ),
                format!(
                    "--authorization-kubeconfig={}",
                    kubeconfig_path("scheduler")
                ),
                "--leader-elect=false".into(),
            ],
        ),
        built(
            "kube-proxy",
            &[
                format!("--kubeconfig={}", kubeconfig_path("proxy")),
                format!("--hostname-override={NODE_NAME}"),
                "--proxy-mode=iptables".into(),
                format!("--cluster-cidr={PODS}"),
                // The limit belongs to the whole machine, not to our namespace.
                "--conntrack-max-per-core=0".into(),
                // A Service works a fifth of a second after its pods do.
                "--iptables-min-sync-period=200ms".into(),
            ],
        ),
        built("coredns", &["-conf".into(), format!("{RUN}/Corefile")]),
    ]
}

/// All of them, in the order of their start.
pub(crate) fn all() -> Vec<Component> {
    foundation()
        .into_iter()
        .chain([api_server()])
        .chain(clients())
        .collect()
}

/// The configuration files that the programs read.
pub(crate) fn files(machine: &Machine) -> Vec<File> {
    vec![
        File {
            path: format!("{RUN}/containerd.toml"),
            text: containerd(machine),
        },
        File {
            path: format!("{RUN}/cni/10-node.conflist"),
            text: network(),
        },
        File {
            path: format!("{RUN}/kubelet.json"),
            text: kubelet(),
        },
        File {
            path: format!("{RUN}/Corefile"),
            text: dns(),
        },
        // Pods that ask for the node's own DNS get none.
        File {
            path: format!("{RUN}/resolv.conf"),
            text: "# The node knows no other DNS than the cluster's.\n".into(),
        },
    ]
}

fn built(name: &'static str, arguments: &[String]) -> Component {
    Component {
        name,
        origin: Origin::Built,
        arguments: arguments.to_vec(),
    }
}

fn containerd(machine: &Machine) -> String {
    let Machine {
        network_plugins,
        pause_image,
        snapshotter,
    } = machine;
    format!(
        r#"version = 2
root = "{DISK}/containerd"
state = "{RUN}/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]

[grpc]
address = "{CONTAINERD}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause_image}"
# Pods' namespaces go with our folder, not among the machine's own.
netns_mounts_under_state_dir = true
# Lowering a score needs a capability that containers often lack; without
# this every pod would fail with an error that does not say so.
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{network_plugins}"
conf_dir = "{RUN}/cni"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "{snapshotter}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
Root = "{RUN}/runc"
"#
    )
}

/// A cable for each pod, and no bridge: replies between two pods then always
/// pass through the node, where a Service's address is put back, whether or not
/// the kernel filters bridges.
fn network() -> String {
    json!({
        "cniVersion": "0.4.0",
        "name": NETWORK,
        "plugins": [{
            "type": "ptp",
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": NODE_PODS }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
                "dataDir": format!("{RUN}/addresses"),
            },
        }],
    })
    .to_string()
}

fn kubelet() -> String {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": cert("ca.crt") },
        },
        "authorization": { "mode": "Webhook" },
        "tlsCertFile": cert("kubelet-server.crt"),
        "tlsPrivateKeyFile": cert("kubelet-server.key"),
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD}"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{CGROUP}"),
        "failCgroupV1": false,
        "failSwapOn": false,
        "clusterDomain": "cluster.local",
        "clusterDNS": [DNS_IP],
        "resolvConf": format!("{RUN}/resolv.conf"),
        // A full disk of the developer's machine is not the node's business: it
        // neither evicts pods nor removes images that were loaded by hand.
        "evictionHard": {
            "imagefs.available": "0%", "imagefs.inodesFree": "0%",
            "nodefs.available": "0%", "nodefs.inodesFree": "0%",
            "memory.available": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        // A Secret's new value reaches its pods in seconds, not in a minute and a half.
        "syncFrequency": "10s",
    })
    .to_string()
}

/// Names of the cluster only. A name outside gets no answer from elsewhere, so no
/// lookup ever leaves the machine.
fn dns() -> String {
    let kubeconfig = kubeconfig_path("coredns");
    format!(
        ".:53 {{
    errors
    ready {NODE_IP}:8181
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {kubeconfig}
    }}
    cache 5
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str) -> String {
        let machine = Machine {
            network_plugins: "/usr/lib/cni".into(),
            pause_image: "pause:1".into(),
            snapshotter: "overlayfs",
        };
        let files = files(&machine);
        files
            .into_iter()
            .find(|file| file.path.ends_with(name))
            .unwrap()
            .text
    }

    #[test]
    fn containerd_keeps_everything_in_the_nodes_own_folders() {
        let config = text("containerd.toml");
        for line in [
            "root = \"/var/lib/gateway-queue-node/containerd\"",
            "state = \"/run/gateway-queue-node/containerd\"",
            "Root = \"/run/gateway-queue-node/runc\"",
            "sandbox_image = \"pause:1\"",
            "snapshotter = \"overlayfs\"",
        ] {
            assert!(config.contains(line), "{line} is not in\n{config}");
        }
    }

    #[test]
    fn nobody_is_let_in_without_a_name() {
        assert!(
            api_server()
                .arguments
                .contains(&"--anonymous-auth=false".to_owned())
        );
        let kubelet: serde_json::Value = serde_json::from_str(&text("kubelet.json")).unwrap();
        assert_eq!(kubelet["authentication"]["anonymous"]["enabled"], false);
        assert_eq!(kubelet["authorization"]["mode"], "Webhook");
    }

    #[test]
    fn every_program_has_a_log_of_its_own() {
        let mut names: Vec<_> = all().iter().map(|component| component.name).collect();
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before);
    }
}
