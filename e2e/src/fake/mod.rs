//! A Discord that enforces the rules of identifying.
//!
//! [`rules`] and [`book`] are pure; around them, `rest` and `gateway` speak to
//! the bots, and `control` to whoever tests.

pub mod book;
mod control;
mod discord;
mod door;
mod gateway;
pub mod outage;
mod protocol;
mod rest;
pub mod rules;
pub mod settings;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpListener;

use self::discord::Discord;
use self::door::Door;
use self::settings::Settings;

/// A fake Discord with its ports bound.
pub struct Fake {
    discord: Arc<Discord>,
    bots: TcpListener,
    control: TcpListener,
}

/// Where a fake Discord listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// REST and gateway, for the bots.
    pub discord: SocketAddr,
    /// The record and the switches, for whoever tests.
    pub control: SocketAddr,
}

impl Fake {
    /// Binds both ports; port 0 lets the system choose.
    ///
    /// # Errors
    ///
    /// When an address cannot be bound.
    pub async fn bind(settings: Settings) -> io::Result<Self> {
        Ok(Self {
            bots: bind(settings.listen).await?,
            control: bind(settings.control).await?,
            discord: Arc::new(Discord::new(settings)),
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// When the system does not tell.
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
    /// When a listener fails for good.
    pub async fn serve(self) -> io::Result<()> {
        let Self {
            discord,
            bots,
            control,
        } = self;
        let door = Door::new(bots, Arc::clone(&discord));
        tokio::try_join!(
            axum::serve(door, rest::router(Arc::clone(&discord))),
            axum::serve(control, control::router(discord)),
        )?;
        Ok(())
    }
}

/// `[::]` takes IPv4, too, and is IPv4 alone on a machine without IPv6.
async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let bound = match TcpListener::bind(address).await {
        Err(_) if address.ip() == Ipv6Addr::UNSPECIFIED => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    };
    bound.map_err(|e| io::Error::new(e.kind(), format!("cannot listen at {address}: {e}")))
}
