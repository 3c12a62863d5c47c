//! Turns a GatewayQueue into a running queue server.
//!
//! Each reconcile walks one way: `observe` the cluster, build what is `desired`, `apply` what
//! differs, and write the `status`. Of several operators one does so (`leader_election`).

pub mod admin;
pub mod api;
pub mod apply;
pub mod cli;
pub mod controller;
pub mod desired;
pub mod events;
pub mod kube_client;
pub mod leader_election;
pub mod metrics;
pub mod observe;
pub mod readiness;
pub mod reconcile;
pub mod runtime;
pub mod status;
mod tasks;

/// The name under which the operator owns fields, and the value of
/// `app.kubernetes.io/managed-by` on everything it makes.
pub const MANAGER: &str = "gateway-queue-operator";

/// Any error that ends the operator.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
