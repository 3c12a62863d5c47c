//! A queue server that paces the identifies of Discord shards.
//!
//! Data flows one way: a request received by `serving` waits in the `queue` task, which applies
//! the rules of `gateway_queue_core`, until it receives a permit to write one grant.

pub mod admin;
mod ca_file;
mod changes;
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
