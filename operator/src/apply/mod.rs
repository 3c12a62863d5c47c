//! Brings the children of a GatewayQueue to the desired state.
//!
//! `applier` is the walk over the children, `creation` creates those of a new GatewayQueue, `drift` decides whether one differs, `revert`
//! writes over one that another client edited, and `drift_backoff` limits how often.

pub mod applier;
mod creation;
pub mod drift;
pub mod drift_backoff;
mod outcome;
pub mod requests;
mod revert;

pub use outcome::{Applied, Outcome};
