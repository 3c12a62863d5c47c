//! A Discord that enforces the rules of identifying.
//!
//! `state` is pure. `rest` and `gateway` serve the bots, and `control` the tests.

mod control;
mod discord;
mod gateway;
mod protocol;
pub mod record;
mod rest;
pub mod settings;
mod state;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;

use self::discord::Discord;
use self::settings::Settings;

/// A fake Discord with its ports bound.
pub struct Fake {
    discord: Arc<Discord>,
    bots: TcpListener,
    control: TcpListener,
}

/// The addresses of a fake Discord.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// REST and gateway, for the bots.
    pub discord: SocketAddr,
    /// The record and the switches, for the tests.
    pub control: SocketAddr,
}

impl Fake {
    /// Binds both ports; port 0 lets the system choose.
    ///
    /// # Errors
    ///
    /// If an address cannot be bound.
    pub async fn bind(settings: Settings) -> io::Result<Self> {
        Ok(Self {
            bots: bind(settings.listen).await?,
            control: bind(settings.control).await?,
            discord: Arc::new(Discord::new(settings)),
        })
    }

    /// Returns the bound addresses.
    ///
    /// # Errors
    ///
    /// If the system does not report one.
    pub fn addresses(&self) -> io::Result<Addresses> {
        Ok(Addresses {
            discord: self.bots.local_addr()?,
            control: self.control.local_addr()?,
        })
    }

    /// Serves until it is dropped.
    ///
    /// # Errors
    ///
    /// If a listener fails.
    pub async fn serve(self) -> io::Result<()> {
        let Self {
            discord,
            bots,
            control,
        } = self;
        let bots = bots.tap_io(|stream| {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "nodelay not set");
            }
        });
        tokio::try_join!(
            axum::serve(bots, rest::router(Arc::clone(&discord))),
            axum::serve(control, control::router(discord)),
        )?;
        Ok(())
    }
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
