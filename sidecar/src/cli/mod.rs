//! A word in the terminal: `gateway-queue status` says how a queue is, and
//! `gateway-queue check` what is wrong with its surroundings.
//!
//! Both work where there is no shell: `kubectl exec POD -- /gateway-queue check`.

// Pure.
pub mod arguments;
pub mod color;
pub mod command;
pub mod diagnose;
pub mod duration;
pub mod remote_state;
pub mod report;
pub mod table;

// They reach the world.
pub mod check;
pub mod failure_stage;
pub mod fetch;
pub mod screen;
pub mod status;
