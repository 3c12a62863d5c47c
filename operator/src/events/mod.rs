//! Kubernetes events of a GatewayQueue.

pub mod rate_limit;
pub mod recorder;
