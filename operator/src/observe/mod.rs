//! What the API server reports: watches, their caches, and what follows from them.

pub mod caches;
pub mod leader;
pub mod lease_observer;
pub mod observed;
pub mod token_claims;
pub mod token_holder;
pub mod watch_health;
pub mod watch_retry;
pub mod watch_stream;
pub mod watches;
