//! The node's programs: their arguments and configuration files.

use serde_json::json;

use super::certs::{kubeconfig_path, path as cert};
use super::dns;
use super::layout::{CGROUP, CONTAINERD, DISK, NETWORK, NODE_NAME, RUN};
use crate::NetworkSettings;

/// One program of the node.
#[derive(Clone, Debug)]
pub(crate) struct Component {
    /// The name of the program and its log.
    pub(crate) name: &'static str,
    pub(crate) arguments: Vec<String>,
}

/// A configuration file of the node.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// What differs between machines.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// The folder of the network plugins.
    pub(crate) network_plugins: String,
    /// The pause image, as containerd names it.
    pub(crate) pause_image: String,
    /// The name of containerd's snapshotter.
    pub(crate) snapshotter: &'static str,
}

/// A program with its arguments, separated by white space.
fn component(name: &'static str, arguments: &str) -> Component {
    Component {
        name,
        arguments: arguments.split_whitespace().map(str::to_owned).collect(),
    }
}

/// The API server's storage, and the container runtime, which takes as long to start.
pub(crate) fn foundation() -> [Component; 2] {
    // Only programs in the node's network namespace reach its loopback; pods have namespaces
    // of their own. The data need not be safe on disk: it is removed with the node.
    let etcd = format!(
        "--data-dir={DISK}/etcd
        --listen-client-urls=http://127.0.0.1:2379
        --advertise-client-urls=http://127.0.0.1:2379
        --listen-peer-urls=http://127.0.0.1:2380
        --unsafe-no-fsync"
    );
    let containerd = format!("--config={RUN}/containerd.toml");
    [
        component("etcd", &etcd),
        component("containerd", &containerd),
    ]
}

/// The API server.
pub(crate) fn api_server(settings: &NetworkSettings) -> Component {
    let NetworkSettings { node, services, .. } = settings;
    let certs = cert("");
    // OwnerReferencesPermissionEnforcement, which OpenShift enables, refuses owner references
    // to objects that the client may not delete.
    // No certificate has the name `nobody`, so no proxy may act for a user. Without these
    // settings, controller manager and scheduler wait for them forever.
    let arguments = format!(
        "--etcd-servers=http://127.0.0.1:2379
        --advertise-address={node}
        --service-cluster-ip-range={services}
        --anonymous-auth=false
        --authorization-mode=Node,RBAC
        --enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement
        --client-ca-file={certs}ca.crt
        --tls-cert-file={certs}apiserver.crt
        --tls-private-key-file={certs}apiserver.key
        --kubelet-certificate-authority={certs}ca.crt
        --kubelet-client-certificate={certs}apiserver-kubelet.crt
        --kubelet-client-key={certs}apiserver-kubelet.key
        --kubelet-preferred-address-types=InternalIP
        --requestheader-client-ca-file={certs}ca.crt
        --requestheader-allowed-names=nobody
        --service-account-issuer=https://kubernetes.default.svc.cluster.local
        --service-account-key-file={certs}service-accounts.crt
        --service-account-signing-key-file={certs}service-accounts.key"
    );
    component("kube-apiserver", &arguments)
}

/// Everything that needs the API server.
pub(crate) fn clients(settings: &NetworkSettings) -> [Component; 5] {
    let NetworkSettings {
        node,
        pods,
        services,
        ..
    } = settings;
    let certs = cert("");
    let names = ["kubelet", "controller-manager", "scheduler", "proxy"];
    let [kubelet, manager, scheduler, proxy] = names.map(kubeconfig_path);
    let kubelet = format!(
        "--config={RUN}/kubelet.json
        --kubeconfig={kubelet}
        --hostname-override={NODE_NAME}
        --node-ip={node}"
    );
    // No election: there is only one of each, and it would take time. The limits of requests
    // are those of the kubelet and the scheduler: with the default of 20 a second, the garbage
    // collector falls behind while many tests end.
    let manager = format!(
        "--kubeconfig={manager}
        --authentication-kubeconfig={manager}
        --authorization-kubeconfig={manager}
        --use-service-account-credentials
        --service-account-private-key-file={certs}service-accounts.key
        --root-ca-file={certs}ca.crt
        --cluster-signing-cert-file={certs}ca.crt
        --cluster-signing-key-file={certs}ca.key
        --allocate-node-cidrs
        --cluster-cidr={pods}
        --service-cluster-ip-range={services}
        --leader-elect=false
        --kube-api-qps=50
        --kube-api-burst=100"
    );
    let scheduler = format!(
        "--kubeconfig={scheduler}
        --authentication-kubeconfig={scheduler}
        --authorization-kubeconfig={scheduler}
        --leader-elect=false"
    );
    // The limit of tracked connections belongs to the whole machine. The short sync period
    // makes a Service work 0.2 s after its pods.
    let proxy = format!(
        "--kubeconfig={proxy}
        --hostname-override={NODE_NAME}
        --proxy-mode=iptables
        --cluster-cidr={pods}
        --conntrack-max-per-core=0
        --iptables-min-sync-period=200ms"
    );
    [
        component("kubelet", &kubelet),
        component("kube-controller-manager", &manager),
        component("kube-scheduler", &scheduler),
        component("kube-proxy", &proxy),
        component("coredns", &format!("-conf {RUN}/Corefile")),
    ]
}

/// All programs, in the order of their start.
pub(crate) fn all(settings: &NetworkSettings) -> Vec<Component> {
    let last = [api_server(settings)].into_iter().chain(clients(settings));
    foundation().into_iter().chain(last).collect()
}

/// The configuration files of the programs.
pub(crate) fn files(machine: &Machine, settings: &NetworkSettings) -> Vec<File> {
    let no_dns = "# The only DNS that the node reaches is the cluster's.\n";
    [
        ("containerd.toml", containerd(machine)),
        ("cni/10-node.conflist", network(settings)),
        ("kubelet.json", kubelet(settings)),
        ("Corefile", corefile(settings)),
        // For pods with the node's own DNS policy.
        ("resolv.conf", no_dns.to_owned()),
    ]
    .map(|(name, text)| File {
        path: format!("{RUN}/{name}"),
        text,
    })
    .into()
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
# Pods' namespaces are removed with the node's folder.
netns_mounts_under_state_dir = true
# Lowering a score needs a capability that containers often lack. Without this setting
# every pod fails, with an error that does not mention it.
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

/// A link for each pod instead of a bridge. Replies between two pods then always pass
/// through the node, which restores a Service's address even if the kernel does not filter
/// bridges.
fn network(settings: &NetworkSettings) -> String {
    json!({
        "cniVersion": "0.4.0",
        "name": NETWORK,
        "plugins": [{
            "type": "ptp",
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": settings.node_pods.to_string() }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
                "dataDir": format!("{RUN}/addresses"),
            },
        }],
    })
    .to_string()
}

fn kubelet(settings: &NetworkSettings) -> String {
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
        "clusterDNS": [settings.dns_service],
        "resolvConf": format!("{RUN}/resolv.conf"),
        // A full disk of the developer's machine must neither evict pods nor remove images
        // that were loaded by hand.
        "evictionHard": {
            "imagefs.available": "0%", "imagefs.inodesFree": "0%",
            "nodefs.available": "0%", "nodefs.inodesFree": "0%",
            "memory.available": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        // A new value of a Secret reaches its pods in seconds instead of 90 s.
        "syncFrequency": "10s",
    })
    .to_string()
}

/// Only names of the cluster are resolved, so no lookup leaves the machine.
fn corefile(settings: &NetworkSettings) -> String {
    let kubeconfig = kubeconfig_path("coredns");
    let (node, ready) = (settings.node, dns::READY_PORT);
    format!(
        ".:53 {{
    errors
    ready {node}:{ready}
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
        let files = files(&machine, &NetworkSettings::IPV4);
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
    fn anonymous_requests_are_refused() {
        let api_server = api_server(&NetworkSettings::IPV4);
        let no_anonymous = "--anonymous-auth=false".to_owned();
        assert!(api_server.arguments.contains(&no_anonymous));
        let kubelet: serde_json::Value = serde_json::from_str(&text("kubelet.json")).unwrap();
        assert_eq!(kubelet["authentication"]["anonymous"]["enabled"], false);
        assert_eq!(kubelet["authorization"]["mode"], "Webhook");
    }

    #[test]
    fn every_program_has_a_log_of_its_own() {
        let all = all(&NetworkSettings::IPV4);
        let names: std::collections::BTreeSet<_> = all.iter().map(|it| it.name).collect();
        assert_eq!(names.len(), all.len());
    }
}
