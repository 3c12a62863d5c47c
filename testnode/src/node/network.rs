//! The node's network: a namespace, a link to the host, and the host's routes to pods and
//! Services.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Result, bail};
use ipnet::IpNet;

use super::layout::{HOST_LINK, NETWORK, NODE_LINK};
use crate::NetworkSettings;
use crate::host::process;

/// The folder in which `ip netns` mounts its namespaces.
const NAMESPACES: &str = "/run/netns";

/// Returns the path of the network namespace.
pub(crate) fn namespace() -> String {
    format!("{NAMESPACES}/{NETWORK}")
}

/// Creates the network.
///
/// # Errors
/// If the host uses the node's addresses for something else, or `ip` fails.
pub(crate) fn create(settings: &NetworkSettings) -> Result<()> {
    let ours = settings.ranges();
    if let Some(taken) = taken(&ip("-4 -o route show")?, &ours) {
        bail!("this machine has a route to {taken}, inside the node's addresses {ours:?}");
    }
    for command in commands(settings) {
        ip(&command)?;
    }
    let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward";
    let enter = format!("--net={}", namespace());
    process::output(process::command("nsenter").args([&enter, "sh", "-c", forward]))?;
    Ok(())
}

/// The arguments of `ip`, in this order.
pub(crate) fn commands(settings: &NetworkSettings) -> Vec<String> {
    let NetworkSettings { host, node, .. } = settings;
    let prefix = settings.link.prefix_len();
    vec![
        format!("netns add {NETWORK}"),
        format!("link add {HOST_LINK} type veth peer name {NODE_LINK} netns {NETWORK}"),
        format!("addr add {host}/{prefix} dev {HOST_LINK}"),
        format!("link set {HOST_LINK} up"),
        format!("-n {NETWORK} addr add {node}/{prefix} dev {NODE_LINK}"),
        format!("-n {NETWORK} link set lo up"),
        format!("-n {NETWORK} link set {NODE_LINK} up"),
        // The node reaches nothing beyond this machine, and a connection fails at once.
        format!("-n {NETWORK} route add unreachable default"),
        format!("route add {} via {node}", settings.pods),
        format!("route add {} via {node}", settings.services),
    ]
}

/// Returns whether any part of the network exists.
pub(crate) fn exists() -> bool {
    has_namespace() || has_link()
}

fn has_namespace() -> bool {
    Path::new(&namespace()).exists()
}

fn has_link() -> bool {
    Path::new("/sys/class/net").join(HOST_LINK).exists()
}

/// Removes all parts of the network. The kernel removes the routes with the link.
pub(crate) fn remove() -> Result<()> {
    if has_link() {
        ip(&format!("link del {HOST_LINK}"))?;
    }
    if has_namespace() {
        ip(&format!("netns del {NETWORK}"))?;
    }
    // `ip netns add` mounts this folder on itself and never unmounts it. It stays while
    // other namespaces are mounted in it.
    if std::fs::read_dir(NAMESPACES).is_ok_and(|mut others| others.next().is_none()) {
        let _ = process::command("umount").arg(NAMESPACES).output();
    }
    Ok(())
}

fn ip(arguments: &str) -> Result<String> {
    process::output(process::command("ip").args(arguments.split(' ')))
}

/// Returns the first of the host's routes that leads into one of `ranges`. A wider route
/// does no harm: the node's own routes are more specific.
fn taken<'a>(routes: &'a str, ranges: &[IpNet]) -> Option<&'a str> {
    let mut destinations = routes
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.contains('.')));
    destinations.find(|text| {
        let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
        let range = text.parse().ok().or_else(address);
        range.is_some_and(|range: IpNet| ranges.iter().any(|ours| ours.contains(&range)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_route_into_the_nodes_addresses_is_in_the_way() {
        for (routes, expected) in [
            (
                "default via 192.0.2.1 dev eth0 \n10.96.0.0/12 dev vpn\n10.244.7.0/24 via 10.0.0.1 dev eth1 \n",
                Some("10.244.7.0/24"),
            ),
            ("10.111.0.1 dev eth1", Some("10.111.0.1")),
            (
                "default via 192.0.2.1 dev eth0\n192.0.2.0/24 dev eth0 proto kernel scope link src 192.0.2.2\n10.0.0.0/8 dev vpn\n10.245.0.0/16 dev x\nunreachable 10.97.0.0/16\n",
                None,
            ),
        ] {
            assert_eq!(taken(routes, &NetworkSettings::IPV4.ranges()), expected);
        }
    }
}
