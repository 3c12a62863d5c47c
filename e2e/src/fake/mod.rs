//! A Discord that enforces the rules of identifying.
//!
//! `state` is pure. `rest` and `gateway` serve the bots, and `control` the tests.

mod compression;
mod control;
mod discord;
mod gateway;
mod protocol;
pub mod record;
mod rest;
pub mod settings;
mod state;

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::serve::ListenerExt as _;
use serde_json::json;
use tokio::net::TcpListener;

use self::discord::Discord;
use self::settings::Settings;

/// Serves until `stop_signal` is ready. Prints one line of JSON once it listens.
///
/// # Errors
/// If an address cannot be bound, a listener fails, or `stop_signal` fails.
pub async fn run(
    settings: Settings,
    stop_signal: impl Future<Output = io::Result<()>>,
) -> anyhow::Result<()> {
    let bots = bind(settings.listen).await?;
    let control = bind(settings.control).await?;
    let addresses = (bots.local_addr()?, control.local_addr()?);
    println!(
        "{}",
        json!({"event": "listening", "discord": addresses.0, "control": addresses.1})
    );
    let bots = bots.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "nodelay not set");
        }
    });
    let discord = Arc::new(Discord::new(settings));
    let rest = rest::router(Arc::clone(&discord));
    tokio::select! {
        served = axum::serve(bots, rest) => served?,
        served = axum::serve(control, control::router(discord)) => served?,
        stop = stop_signal => stop?,
    }
    Ok(())
}

/// Binds an address. `[::]` includes IPv4, and becomes `0.0.0.0` on a machine without IPv6.
async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let bound = match TcpListener::bind(address).await {
        Err(_) if address.ip() == Ipv6Addr::UNSPECIFIED => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    };
    bound.map_err(|e| io::Error::new(e.kind(), format!("cannot listen at {address}: {e}")))
}
