//! The election over the Kubernetes API.

pub(crate) mod ca_bundle;
pub mod candidate_task;
pub mod lease_client;
mod log;
