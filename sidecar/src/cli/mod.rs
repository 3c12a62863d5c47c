//! The command line, and the commands `status` and `check`.
//!
//! Both also run in the image, which has no shell: `kubectl exec POD -- /gateway-queue check`.

pub mod check;
pub mod color;
pub mod command;
pub mod diagnose;
pub mod duration;
pub mod failure_stage;
pub mod fetch;
pub mod remote_state;
pub mod report;
pub mod screen;
pub mod state_url;
pub mod status;
pub mod table;
