//! The listener for the bots: it can refuse them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};

use super::discord::Discord;
use super::outage::Outage;

/// Closes new connections without a word while the outage says so. Every
/// answer closes its connection, so no old one gets past the door.
pub(super) struct Door {
    listener: TcpListener,
    discord: Arc<Discord>,
}

impl Door {
    pub(super) fn new(listener: TcpListener, discord: Arc<Discord>) -> Self {
        Self { listener, discord }
    }
}

impl Listener for Door {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            let (stream, peer) = Listener::accept(&mut self.listener).await;
            if self.discord.book(|book| book.outage()) == Outage::Refuse {
                continue;
            }
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%peer, %error, "the connection will be slower");
            }
            return (stream, peer);
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
