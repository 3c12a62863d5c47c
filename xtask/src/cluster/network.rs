//! The node's network: a namespace, a cable to the host, and the host's routes to
//! pods and Services.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Result, bail};

use super::layout::{CABLE, HOST_IP, HOST_LINK, NETWORK, NODE_IP, NODE_LINK, PODS, SERVICES};
use crate::process;

/// The file that stands for the namespace.
pub(crate) fn namespace() -> String {
    format!("{NAMESPACES}/{NETWORK}")
}

/// Makes it.
///
/// # Errors
/// When the host uses the node's addresses itself, or `ip` fails.
pub(crate) fn create() -> Result<()> {
    if let Some(taken) = taken(&ip("-4 -o route show")?) {
        bail!(
            "this machine has a route to {taken} already, which is inside the node's own addresses ({CABLE}, {PODS}, {SERVICES})"
        );
    }
    for command in commands() {
        ip(&command)?;
    }
    let mut forward = process::command("nsenter");
    forward.arg(format!("--net={}", namespace())).args([
        "sh",
        "-c",
        "echo 1 > /proc/sys/net/ipv4/ip_forward",
    ]);
    process::output(&mut forward)?;
    Ok(())
}

/// What `ip` is told, in this order.
pub(crate) fn commands() -> Vec<String> {
    vec![
        format!("netns add {NETWORK}"),
        format!("link add {HOST_LINK} type veth peer name {NODE_LINK} netns {NETWORK}"),
        format!("addr add {HOST_IP}/30 dev {HOST_LINK}"),
        format!("link set {HOST_LINK} up"),
        format!("-n {NETWORK} addr add {NODE_IP}/30 dev {NODE_LINK}"),
        format!("-n {NETWORK} link set lo up"),
        format!("-n {NETWORK} link set {NODE_LINK} up"),
        // Nothing of the node gets beyond this machine, and who tries is told at once.
        format!("-n {NETWORK} route add unreachable default"),
        format!("route add {PODS} via {NODE_IP}"),
        format!("route add {SERVICES} via {NODE_IP}"),
    ]
}

/// Whether any of it is there.
pub(crate) fn exists() -> bool {
    Path::new(&namespace()).exists() || Path::new("/sys/class/net").join(HOST_LINK).exists()
}

/// Where `ip netns` keeps its namespaces.
const NAMESPACES: &str = "/run/netns";

/// Removes what there is of it. The routes go with the cable.
///
/// # Errors
/// When `ip` fails to remove what is there.
pub(crate) fn remove() -> Result<()> {
    if Path::new("/sys/class/net").join(HOST_LINK).exists() {
        ip(&format!("link del {HOST_LINK}"))?;
    }
    if Path::new(&namespace()).exists() {
        ip(&format!("netns del {NETWORK}"))?;
    }
    // `ip netns add` mounts this folder on itself, for ever. While anybody
    // else has a namespace there it is theirs, too, and busy.
    let empty = std::fs::read_dir(NAMESPACES).is_ok_and(|mut others| others.next().is_none());
    if empty {
        let _ = process::command("umount").arg(NAMESPACES).output();
    }
    Ok(())
}

fn ip(arguments: &str) -> Result<String> {
    process::output(process::command("ip").args(arguments.split(' ')))
}

/// The first of the host's routes that leads to a part of the node's addresses.
/// A wider route is no harm: the node's own are narrower and win.
fn taken(routes: &str) -> Option<&str> {
    let ours = [CABLE, PODS, SERVICES].map(range);
    let destinations = routes
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.contains('.')));
    destinations.filter(|text| *text != "default").find(|text| {
        let Some((start, bits)) = range(text) else {
            return false;
        };
        ours.iter()
            .flatten()
            .any(|(our_start, our_bits)| bits >= *our_bits && start & mask(*our_bits) == *our_start)
    })
}

/// Reads `10.0.0.0/8`, or one address.
fn range(text: &str) -> Option<(u32, u32)> {
    let (address, bits) = text.split_once('/').unwrap_or((text, "32"));
    let bits: u32 = bits.parse().ok().filter(|bits| *bits <= 32)?;
    Some((
        address.parse::<Ipv4Addr>().ok()?.to_bits() & mask(bits),
        bits,
    ))
}

fn mask(bits: u32) -> u32 {
    u32::MAX.checked_shl(32 - bits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_into_the_nodes_addresses_is_found() {
        let routes = "default via 192.0.2.1 dev eth0 \n10.96.0.0/12 dev vpn\n10.244.7.0/24 via 10.0.0.1 dev eth1 \n";
        assert_eq!(taken(routes), Some("10.244.7.0/24"));
        assert_eq!(taken("10.111.0.1 dev eth1"), Some("10.111.0.1"));
    }

    #[test]
    fn routes_beside_the_nodes_addresses_or_wider_than_them_are_no_harm() {
        let routes = "default via 192.0.2.1 dev eth0\n192.0.2.0/24 dev eth0 proto kernel scope link src 192.0.2.2\n10.0.0.0/8 dev vpn\n10.245.0.0/16 dev x\nunreachable 10.97.0.0/16\n";
        assert_eq!(taken(routes), None);
    }
}
