//! Who may identify when: buckets, waiters, reservations and session starts.

mod agenda;
pub mod budget;
pub mod discord_retry;
pub mod pacer;
pub mod reservations;
pub mod scheduler;
pub mod shard_history;
mod shards_until;
mod wait_list;
mod waiter_map;
