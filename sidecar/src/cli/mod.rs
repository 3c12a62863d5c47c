//! The command line, and the commands `status` and `check`.
//!
//! Both also run in the image, which has no shell: `kubectl exec POD -- /gateway-queue check`.

pub mod check;
mod color;
pub mod command;
mod diagnose;
mod duration;
mod failure_stage;
mod fetch;
mod remote_state;
mod report;
mod screen;
mod state_url;
pub mod status;
mod table;
