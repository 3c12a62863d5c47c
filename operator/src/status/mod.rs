//! The status of a GatewayQueue: computed from what was observed and applied, and written if
//! it has changed.

mod compute;
mod condition_value;
mod discord_conditions;
pub mod last_written;
mod leader_reachable;
mod leaderless;
mod pod_failure;
mod progress;
mod ready;
mod spec_blocked;
mod text;
pub mod writer;

pub use compute::{Inputs, compute, unreadable};

#[cfg(test)]
mod tests;
