//! What the API server reports: watches, their caches, and what is concluded from them.

pub mod caches;
pub mod leader;
pub mod lease_observer;
pub mod token_claims;
pub mod watch_health;
pub mod watch_retry;
pub mod watches;
