//! A queue server that hands out Discord identify turns.
//!
//! Data walks one way: a request of `serving` waits in the `queue` task, which owns the rules
//! of `gateway_queue_core`, until a permit to write one grant comes back.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod discord;
pub mod forwarding;
pub mod http_client;
pub mod leadership;
pub mod metrics;
pub mod queue;
pub mod server;
pub mod serving;
mod tasks;
mod tcp;
