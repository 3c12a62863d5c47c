//! What the API server reports: watches, their caches, and what follows from them.

pub mod caches;
pub mod child;
pub mod compact_metadata;
pub mod deployment;
mod json_text;
pub mod leader;
pub mod lease;
pub mod lease_observer;
pub mod observed;
mod of_kind;
pub mod pod;
pub mod token_claims;
pub mod token_holder;
pub mod watch_health;
pub mod watch_retry;
pub mod watch_stream;
pub mod watches;
