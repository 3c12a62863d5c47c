//! The network of a cluster: its addresses, and later its address families and egress.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

/// The addresses of a node and its cluster. A change to any of them causes a new node.
#[derive(Clone, Copy, Debug)]
pub struct NetworkSettings {
    /// The host's end of the link between host and node.
    pub(crate) host: IpAddr,
    /// The node's end of the link, where the API server listens.
    pub(crate) node: IpAddr,
    /// The range of the link.
    pub(crate) link: IpNet,
    /// The addresses of pods.
    pub(crate) pods: IpNet,
    /// The part of them that the only node gets.
    pub(crate) node_pods: IpNet,
    /// The addresses of Services.
    pub(crate) services: IpNet,
    /// The Service `kubernetes` of the API server.
    pub(crate) api_service: IpAddr,
    /// The Service of the cluster's DNS.
    pub(crate) dns_service: IpAddr,
}

impl NetworkSettings {
    /// IPv4 only, without access to anything outside the cluster but the host.
    pub const IPV4: Self = Self {
        host: address(10, 111, 0, 1),
        node: address(10, 111, 0, 2),
        link: range([10, 111, 0, 0], 30),
        pods: range([10, 244, 0, 0], 16),
        node_pods: range([10, 244, 0, 0], 24),
        services: range([10, 96, 0, 0], 16),
        api_service: address(10, 96, 0, 1),
        dns_service: address(10, 96, 0, 10),
    };

    /// Returns the URL of the API server.
    pub(crate) fn api_url(&self) -> String {
        format!("https://{}:6443", self.node)
    }

    /// Returns the ranges that the host routes to the node.
    pub(crate) fn ranges(&self) -> [IpNet; 3] {
        [self.link, self.pods, self.services]
    }
}

const fn address(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn range([a, b, c, d]: [u8; 4], prefix: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix))
}
