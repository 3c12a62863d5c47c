//! A word in the terminal: `gateway-queue status` says how a queue is, and
//! `gateway-queue check` what is wrong with its surroundings.
//!
//! Both work where there is no shell: `kubectl exec POD -- /gateway-queue check`.

// Pure.
pub mod arguments;
pub mod duration;
pub mod findings;
pub mod judge;
pub mod paint;
pub mod seen;
pub mod table;

// They reach the world.
pub mod ask;
pub mod check;
pub mod screen;
pub mod stage;
pub mod status;
