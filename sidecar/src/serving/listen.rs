//! Opens the ports.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket};

use crate::tcp::KEEPALIVE;

/// How many clients may connect at the same moment, as all shards do after a restart of a
/// bot. The kernel makes more of them retry after 1 s, 3 s …, and they lose their order of
/// arrival. (The kernel's `somaxconn` is an upper bound.)
const BACKLOG: u32 = 4096;

/// A port could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({variable}): {source}{}", hint(source))]
pub struct Failed {
    address: SocketAddr,
    /// The setting of the port.
    variable: &'static str,
    source: io::Error,
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "; ports below 1024 usually need root",
        io::ErrorKind::AddrInUse => "; another program uses it",
        io::ErrorKind::AddrNotAvailable => "; HOST must be an address of this machine",
        _ => "",
    }
}

/// Listens on `host`, or on every address of both families.
///
/// # Errors
///
/// If the port cannot be opened.
pub(crate) fn listen(
    variable: &'static str,
    host: Option<IpAddr>,
    port: u16,
) -> Result<TcpListener, Failed> {
    let at = |ip| {
        let address = SocketAddr::new(ip, port);
        bind(address).map_err(|source| Failed {
            address,
            variable,
            source,
        })
    };
    match host {
        Some(ip) => at(ip),
        None => match at(Ipv6Addr::UNSPECIFIED.into()) {
            Err(failed) if has_no_ipv6(&failed.source) => at(Ipv4Addr::UNSPECIFIED.into()),
            bound => bound,
        },
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        let socket = TcpSocket::new_v6()?;
        // The meaning of `::` must not depend on the machine (net.ipv6.bindv6only).
        SockRef::from(&socket).set_only_v6(false)?;
        socket
    };
    // The port may be reused while old connections to it time out.
    socket.set_reuseaddr(true)?;
    // The connections inherit these, which is cheaper than setting them on each.
    socket.set_nodelay(true)?;
    SockRef::from(&socket).set_tcp_keepalive(&KEEPALIVE)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Whether the kernel has no IPv6, or no IPv6 address.
fn has_no_ipv6(error: &io::Error) -> bool {
    [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;
    use crate::tcp::LOST_AFTER;

    #[tokio::test]
    async fn only_the_unspecified_ipv6_address_means_both_families() {
        let loopback = |ip: &str| Some(ip.parse::<IpAddr>().unwrap());
        for (host, v4, v6) in [
            ("127.0.0.1", true, false),
            ("0.0.0.0", true, false),
            ("::1", false, true),
            ("::", true, true),
        ] {
            let listener = listen("PORT", loopback(host), 0).unwrap();
            let port = listener.local_addr().unwrap().port();
            let connects = |ip: IpAddr| async move { TcpStream::connect((ip, port)).await.is_ok() };
            assert_eq!(connects(Ipv4Addr::LOCALHOST.into()).await, v4, "{host}");
            assert_eq!(connects(Ipv6Addr::LOCALHOST.into()).await, v6, "{host}");
        }
    }

    #[tokio::test]
    async fn connections_send_at_once_and_notice_a_lost_client() {
        let listener = listen("PORT", Some(Ipv4Addr::LOCALHOST.into()), 0).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await;
        let (connection, _) = listener.accept().await.unwrap();
        let socket = SockRef::from(&connection);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        let probes =
            socket.tcp_keepalive_interval().unwrap() * socket.tcp_keepalive_retries().unwrap();
        assert_eq!(socket.tcp_keepalive_time().unwrap() + probes, LOST_AFTER);
        drop(client);
    }

    #[tokio::test]
    async fn a_port_in_use_is_not_mistaken_for_missing_ipv6() {
        let taken = listen("PORT", None, 0).unwrap();
        let port = taken.local_addr().unwrap().port();
        let failed = listen("PORT", None, port).unwrap_err().to_string();
        assert!(failed.starts_with(&format!("cannot listen on [::]:{port} (PORT): ")));
        assert!(failed.ends_with("; another program uses it"), "{failed}");
        for (errno, none) in [(Errno::AFNOSUPPORT, true), (Errno::ACCESS, false)] {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            assert_eq!(has_no_ipv6(&error), none);
        }
    }
}
