//! Why a queue cannot be created.

/// Why an [`HttpQueue`](crate::HttpQueue) cannot be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address of the server cannot be used.
    #[error(
        "the queue's address {url:?} {fault}; accepted is http:// (or https://, with the feature \
         `tls`), a host, and optionally a port and a path, such as http://my-bot.default.svc"
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
