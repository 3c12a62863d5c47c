//! A twilight [`Queue`] that requests each grant from a gateway-queue server.
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
//! A waiting shard has one open request, however long it waits. Only a complete response with a
//! 2xx status lets it identify. If the server cannot be reached, the connection closes, or the
//! status is not 2xx, the request is retried after a short pause. If the shard stops waiting,
//! the request is canceled, so that the server does not grant it.

mod ask;
mod backoff;

use tokio::sync::oneshot;
use twilight_gateway_queue::Queue;

use ask::Server;

/// The queue of a gateway-queue server.
///
/// Clones share their settings; each shard has a connection of its own.
#[derive(Clone, Debug)]
pub struct HttpQueue {
    server: Server,
}

/// Why an [`HttpQueue`] cannot be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address of the server cannot be used.
    #[error(
        "the queue's address {url:?} {fault}; accepted is http:// or https://, a host, and \
         optionally a port and a path, such as http://my-bot.default.svc"
    )]
    Address {
        /// The address, unless it contains a password.
        url: String,
        /// What is wrong with it.
        fault: String,
    },
    /// The HTTP client cannot be created.
    #[error("the HTTP client of the queue cannot be created: {0}")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl HttpQueue {
    /// Returns the queue of the server at `url`, such as `http://my-bot.default.svc`. Nothing is
    /// sent before a shard enqueues.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] if `url` is not such an address; [`Error::Client`] if there is no
    /// usable TLS or DNS configuration.
    pub fn new(url: &str) -> Result<Self, Error> {
        Server::new(url).map(|server| Self { server })
    }
}

impl Queue for HttpQueue {
    /// Requests a grant for shard `id`, in a task of its own.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, in which twilight's shards always run.
    fn enqueue(&self, id: u32) -> oneshot::Receiver<()> {
        let (granted, receiver) = oneshot::channel();
        tokio::spawn(self.server.clone().wait(id, granted));
        receiver
    }
}
