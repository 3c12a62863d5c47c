//! Writes children: what differs from what is desired, and how often it is reverted.

pub mod drift;
pub mod drift_backoff;
pub mod requests;
