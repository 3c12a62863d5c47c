//! Finding the gateway.
//!
//! twilight resolves names with the C library, which in a static binary without
//! any system around it may find none. So the name is resolved here, and
//! twilight is given an IP. The fake Discord then names the same IP as the
//! place to resume at.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use hickory_resolver::TokioResolver;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::settings::Gateway;

/// Between two tries: the Service may be younger than the bot.
const AGAIN: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The URL of the gateway with an IP in it. Tries until something listens
/// there: a twilight shard that found nothing waits longer each time.
pub(super) async fn dialled(gateway: &Gateway) -> String {
    loop {
        match dial(gateway).await {
            Ok(address) => return format!("ws://{address}"),
            Err(error) => {
                let Gateway { host, port } = gateway;
                tracing::warn!("the gateway {host}:{port} cannot be reached: {error:#}");
                sleep(AGAIN).await;
            }
        }
    }
}

/// Which of the gateway's addresses accepts a connection: `localhost` may be
/// listened to in one version of IP alone.
async fn dial(gateway: &Gateway) -> anyhow::Result<SocketAddr> {
    let addresses: Vec<_> = resolve(&gateway.host)
        .await?
        .into_iter()
        .map(|ip| SocketAddr::new(ip, gateway.port))
        .collect();
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(&addresses[..]))
        .await
        .context("connecting took too long")??;
    Ok(stream.peer_addr()?)
}

async fn resolve(host: &str) -> anyhow::Result<Vec<IpAddr>> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse() {
        return Ok(vec![ip]);
    }
    let resolver = TokioResolver::builder_tokio()
        .and_then(|builder| builder.build())
        .context("the system's DNS settings")?;
    Ok(resolver.lookup_ip(host).await?.iter().collect())
}
