#![doc = include_str!("../README.md")]

mod ask;
mod backoff;
mod error;
mod report;
mod server;

use tokio::sync::oneshot;
use twilight_gateway_queue::Queue;

use server::Server;

pub use error::Error;
pub use report::Report;

/// The queue of a gateway-queue server.
///
/// Clones share their settings; each shard has a connection of its own.
#[derive(Clone, Debug)]
pub struct HttpQueue {
    server: Server,
}

impl HttpQueue {
    /// Returns the queue of the server at `url`, such as `http://my-bot.default.svc`. Nothing is
    /// sent before a shard enqueues.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] if `url` is not such an address; [`Error::Client`] if the HTTP client
    /// cannot be created.
    pub fn new(url: &str) -> Result<Self, Error> {
        Server::new(url).map(|server| Self { server })
    }

    /// Reports to the server what became of shard `id`, in a task of its own. A report that fails
    /// is dropped: no grant depends on it.
    ///
    /// twilight's own gateway-queue takes a report for the request of a shard that wants to
    /// identify, so do not report to that server.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn report(&self, id: u32, report: Report) {
        tokio::spawn(report::send(self.server.clone(), id, report));
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
        tokio::spawn(ask::wait(self.server.clone(), id, granted));
        receiver
    }
}
