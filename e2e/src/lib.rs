//! Building blocks of the tests on a real cluster.
//!
//! - [`fake`]: a Discord that enforces the rules of identifying, and records every breach
//! - [`bot`]: the real twilight shards of one pod, which wait for a gateway-queue
//! - [`specs`]: specs of a GatewayQueue, generated from the schema of its CRD
//! - [`waits`]: the requests of plain clients, and figures computed from them
//!
//! The first two are programs, `fake-discord` and `bot`. Environment variables configure them;
//! they report events on standard output.

pub mod bot;
pub mod environment;
pub mod fake;
pub mod program;
pub mod specs;
pub mod waits;
