//! A twilight [`Queue`] that asks a gateway-queue server for each turn.
//!
//! ```no_run
//! # fn main() -> Result<(), gateway_queue_client::Error> {
//! use gateway_queue_client::HttpQueue;
//!
//! let queue = HttpQueue::new("http://my-bot.default.svc")?;
//! // twilight_gateway::ConfigBuilder::new(token, intents).queue(queue)
//! # Ok(()) }
//! ```
//!
//! A shard that enqueues holds one request to the server until the server
//! answers it, however long that takes. Only an answer of 2xx, received to its
//! last byte, lets the shard identify. Whatever else happens (nothing listens,
//! the connection closes, another status) the request is made again after a
//! short wait, for as long as the shard waits. A shard that stops waiting takes
//! its request with it, so that the server gives no turn to nobody.

mod ask;
mod backoff;

use tokio::sync::oneshot;
use twilight_gateway_queue::Queue;

use ask::Server;

/// A queue of shards that lives in a gateway-queue server.
///
/// Clones share their settings; each shard has a connection of its own.
#[derive(Clone, Debug)]
pub struct HttpQueue {
    server: Server,
}

/// Why there is no [`HttpQueue`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address of the server cannot be used.
    #[error(
        "the queue's address {url:?} {fault}; accepted is http:// or https://, a host, and \
         optionally a port and a path, such as http://my-bot.default.svc"
    )]
    Address {
        /// The address as it was given; without it when it holds a password.
        url: String,
        /// What is wrong with it.
        fault: String,
    },
    /// The HTTP client could not be made.
    #[error("the HTTP client of the queue cannot be made: {0}")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl HttpQueue {
    /// A queue that asks the server at `url`, such as
    /// `http://my-bot.default.svc`. Nothing is sent before a shard enqueues.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] when `url` is not such an address, and
    /// [`Error::Client`] when the system has no means for an HTTP client.
    pub fn new(url: &str) -> Result<Self, Error> {
        Server::new(url).map(|server| Self { server })
    }
}

impl Queue for HttpQueue {
    /// Asks for a turn of shard `id`, in a task of its own.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime; twilight's shards are always inside of one.
    fn enqueue(&self, id: u32) -> oneshot::Receiver<()> {
        let (granted, receiver) = oneshot::channel();
        tokio::spawn(self.server.clone().turn(id, granted));
        receiver
    }
}
