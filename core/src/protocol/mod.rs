//! What clients send and receive.

pub mod refusal;
pub mod request;

/// What the original answers, byte for byte.
pub const GRANT: &[u8] = br#"{"message": "You're free to connect now! :)"}"#;
