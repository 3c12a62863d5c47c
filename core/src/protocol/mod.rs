//! What clients and other pods send and receive.

pub mod peer;
pub mod refusal;
pub mod request;

/// The body of the grant, which is that of the original byte for byte.
pub const GRANT: &[u8] = br#"{"message": "You're free to connect now! :)"}"#;
