//! What clients and other pods send and receive.

use std::io;

pub mod body;
pub mod head;
pub mod peer;
pub mod refusal;
pub mod request;

/// The body of the grant, which is that of the original byte for byte.
pub const GRANT: &[u8] = br#"{"message": "You're free to connect now! :)"}"#;

/// The user agent of the requests of one process to another.
pub const USER_AGENT: &str = "gateway-queue";

/// The request is invalid, or too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request is invalid or too long")]
pub struct InvalidRequest;

impl From<InvalidRequest> for io::Error {
    fn from(invalid: InvalidRequest) -> Self {
        Self::other(invalid)
    }
}
