//! What the tests on a real cluster are made of.
//!
//! - [`fake`]: a Discord that enforces the rules of identifying, and records
//!   every breach of them;
//! - [`bot`]: a pod's worth of real twilight shards that get their turns from a
//!   gateway-queue;
//! - [`specs`]: specs of a GatewayQueue, generated from the schema of its CRD;
//! - [`waits`]: what plain clients saw that waited for their turns.
//!
//! The first two are programs, `fake-discord` and `bot`; both are set by
//! environment variables, and say what happens on their standard output.

pub mod bot;
pub mod fake;
pub mod program;
pub mod settings;
pub mod specs;
pub mod waits;
