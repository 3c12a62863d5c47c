//! The rules of the queue, without IO.
//!
//! Nothing here reads a clock, a socket or the environment: time and input are arguments, and
//! decisions are return values. The server (`gateway-queue`) supplies both.

pub mod bot_token;
pub mod gateway_bot;
pub mod leadership;
pub mod lease_state;
pub mod pacing;
pub mod protocol;
pub mod queue;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time;
