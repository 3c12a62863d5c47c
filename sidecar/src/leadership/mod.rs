//! The election over the Kubernetes API.

pub mod candidate_task;
pub mod lease_client;
mod log;
