//! Who may identify when: buckets, waiters, reservations and session starts.

pub mod budget;
pub mod discord_retry;
pub mod pacer;
pub mod reservations;
pub mod scheduler;
mod wait_list;
