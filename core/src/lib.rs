//! The rules of the queue, without IO.
//!
//! Nothing here reads a clock, a socket or the environment: time and input are arguments, and
//! decisions are return values. The server (`gateway-queue`) supplies both. A bot that runs in
//! one process can embed the scheduler in the same way:
//!
//! ```
//! use std::time::Duration;
//!
//! use gateway_queue_core::lease_state::TokenState;
//! use gateway_queue_core::pacing::budget::Rules;
//! use gateway_queue_core::pacing::pacer::WaiterId;
//! use gateway_queue_core::pacing::scheduler::{Config, Queue};
//! use gateway_queue_core::pacing::shard_history::ShardLimit;
//! use gateway_queue_core::time::Moment;
//!
//! let config = Config {
//!     spacing: Duration::from_millis(5250),
//!     start_guard: false,
//!     reservation_ttl: Duration::from_secs(60),
//!     shard_limit: ShardLimit::NONE,
//!     max_concurrency: 1,
//!     rules: Rules {
//!         interval: Duration::from_secs(5),
//!         reserve: 0,
//!         refresh: Duration::from_secs(300),
//!     },
//! };
//! // Without a token, session starts are not counted.
//! let mut now = Moment::ZERO;
//! let mut queue = Queue::new(&config, TokenState::None, now);
//! for shard in 0..2 {
//!     queue.offer(WaiterId(shard.into()), shard, now);
//! }
//! let mut granted = Vec::new();
//! while granted.len() < 2 {
//!     match queue.grant(now) {
//!         // The shard identifies here; the next grant of its bucket counts from this moment.
//!         Some(grant) => {
//!             queue.written(grant.waiter, now);
//!             granted.push((grant.shard, now));
//!         }
//!         // A real program sleeps until then.
//!         None => now = queue.wake_at().expect("a shard waits"),
//!     }
//! }
//! assert_eq!(granted[1].1.since(granted[0].1), config.spacing);
//! ```

pub mod bot_token;
pub mod gateway_bot;
pub mod leadership;
pub mod lease_state;
mod names;
pub mod pacing;
pub mod protocol;
pub mod queue;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time;
