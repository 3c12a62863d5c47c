//! Settings of the queue's Service.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::names;
use super::schema;

/// Settings of the queue's Service.
#[derive(KubeSchema, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("self.type != 'ClusterIP' || self.port != 9090").message(
        "service.port must not be 9090 if service.type is ClusterIP, because port 9090 of such a Service is the admin port: use another port"
    ),
    validation = Rule::new("self.type != 'ClusterIP' || !(has(self.nodePort) || has(self.externalTrafficPolicy))").message(
        "service.nodePort and service.externalTrafficPolicy require the service.type NodePort or LoadBalancer"
    ),
    validation = Rule::new("self.type == 'LoadBalancer' || !(has(self.loadBalancerClass) || (has(self.loadBalancerSourceRanges) && self.loadBalancerSourceRanges.size() > 0))").message(
        "service.loadBalancerClass and service.loadBalancerSourceRanges require the service.type LoadBalancer"
    ),
    validation = Rule::new("self.type != 'LoadBalancer' || oldSelf.type != 'LoadBalancer' || (has(self.loadBalancerClass) ? self.loadBalancerClass : '') == (has(oldSelf.loadBalancerClass) ? oldSelf.loadBalancerClass : '')").message(
        "service.loadBalancerClass cannot be changed, because Kubernetes allows it only in a new load balancer: change service.type to ClusterIP, and back when the Service has it"
    ),
    validation = Rule::new("!has(self.ipFamilies) || self.ipFamilies.size() < 2 || (has(self.ipFamilyPolicy) && self.ipFamilyPolicy != 'SingleStack')").message(
        "two service.ipFamilies require the service.ipFamilyPolicy PreferDualStack or RequireDualStack"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSettings {
    /// The type of the Service, which determines where the queue can be reached from. Only with
    /// ClusterIP, it also has the admin port (9090). Defaults to ClusterIP.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,
    /// The port that clients use, 1 to 65535, and not 9090 if the type is ClusterIP. Defaults to
    /// 80.
    #[serde(default = "default_service_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// The application protocol of the queue port, which a service mesh reads. A proxy that
    /// parses HTTP would answer a client whose connection the queue closes, and clients that do
    /// not send `wait` take any answer for a grant. Defaults to tcp.
    #[serde(default = "default_app_protocol")]
    #[schemars(length(min = 1, max = 317), regex(pattern = schema::LABEL_KEY))]
    pub app_protocol: String,
    /// The port on each node, if the type is NodePort or LoadBalancer. If absent, Kubernetes
    /// chooses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub node_port: Option<i32>,
    /// Whether traffic from outside is routed to pods of all nodes (Cluster) or of the node where
    /// it arrives (Local), if the type is NodePort or LoadBalancer. If absent, it is Cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<TrafficPolicy>,
    /// The implementation of the load balancer, if the type is LoadBalancer. It cannot be changed
    /// later. If absent, it is the default one of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317), regex(pattern = schema::LABEL_KEY))]
    pub load_balancer_class: Option<String>,
    /// The addresses of the clients that the load balancer accepts, such as 192.0.2.0/24. If
    /// absent or empty, it accepts all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 43)))]
    #[x_kube(validation = Rule::new("self.all(range, isCIDR(range))").message(
        "each of service.loadBalancerSourceRanges must be a range of IP addresses, such as 192.0.2.0/24"
    ))]
    pub load_balancer_source_ranges: Option<Vec<String>>,
    /// Whether the Service has an address of one IP family or of two: SingleStack,
    /// PreferDualStack or RequireDualStack. If absent, Kubernetes chooses it: SingleStack for a
    /// new Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_family_policy: Option<IpFamilyPolicy>,
    /// The IP families of the Service: IPv4, IPv6 or both. The first one cannot be changed later. If absent, Kubernetes chooses them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2))]
    #[x_kube(validation = Rule::new("self.size() < 2 || self[0] != self[1]").message(
        "service.ipFamilies must not have the same family twice"
    ))]
    pub ip_families: Option<Vec<IpFamily>>,
    /// Annotations of the Service. Keys under gatewayqueue.dev/ are rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::annotations")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Labels of the Service. Keys under gatewayqueue.dev/ and the well-known labels that the
    /// operator sets are rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::labels")]
    pub labels: Option<BTreeMap<String, String>>,
}

names! {
    /// The type of the Service.
    #[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[allow(missing_docs, reason = "the names of Kubernetes")]
    pub enum ServiceType {
        #[default]
        ClusterIP,
        NodePort,
        LoadBalancer,
    }
}

names! {
    /// To which nodes' pods traffic from outside is routed.
    #[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[allow(missing_docs, reason = "the names of Kubernetes")]
    pub enum TrafficPolicy {
        Cluster,
        Local,
    }
}

names! {
    /// How many IP families a Service has.
    #[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[allow(missing_docs, reason = "the names of Kubernetes")]
    pub enum IpFamilyPolicy {
        SingleStack,
        PreferDualStack,
        RequireDualStack,
    }
}

names! {
    /// An IP family.
    #[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[allow(missing_docs, reason = "the names of Kubernetes")]
    pub enum IpFamily {
        IPv4,
        IPv6,
    }
}

impl Default for ServiceSettings {
    fn default() -> Self {
        Self {
            type_: ServiceType::default(),
            port: default_service_port(),
            app_protocol: default_app_protocol(),
            node_port: None,
            external_traffic_policy: None,
            load_balancer_class: None,
            load_balancer_source_ranges: None,
            ip_family_policy: None,
            ip_families: None,
            annotations: None,
            labels: None,
        }
    }
}

fn default_app_protocol() -> String {
    "tcp".to_owned()
}

fn default_service_port() -> i32 {
    80
}
