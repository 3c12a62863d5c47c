//! The gateway's address.
//!
//! twilight resolves names by the C library, which may not work in a static binary in an empty
//! image. So the name is resolved here, and twilight receives an IP address. The fake Discord
//! then names the same address for resuming.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use hickory_resolver::TokioResolver;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::settings::Gateway;

/// The delay between attempts; the Service may be created after the bot.
const RETRY: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the gateway's URL with an IP address, once something listens there. A twilight shard
/// that cannot connect would wait longer each time.
pub(super) async fn reachable_url(gateway: &Gateway) -> String {
    loop {
        match connect(gateway).await {
            Ok(address) => return format!("ws://{address}"),
            Err(error) => {
                let Gateway { host, port } = gateway;
                tracing::warn!("cannot reach the gateway {host}:{port}: {error:#}");
                sleep(RETRY).await;
            }
        }
    }
}

/// Returns the address that accepts a connection: a server on `localhost` may listen on one IP
/// version only.
async fn connect(gateway: &Gateway) -> anyhow::Result<SocketAddr> {
    let addresses: Vec<_> = resolve(&gateway.host)
        .await?
        .into_iter()
        .map(|ip| SocketAddr::new(ip, gateway.port))
        .collect();
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(&addresses[..]))
        .await
        .context("connect timeout")??;
    Ok(stream.peer_addr()?)
}

async fn resolve(host: &str) -> anyhow::Result<Vec<IpAddr>> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse() {
        return Ok(vec![ip]);
    }
    let resolver = TokioResolver::builder_tokio()
        .and_then(|builder| builder.build())
        .context("reading the DNS settings")?;
    Ok(resolver.lookup_ip(host).await?.iter().collect())
}
