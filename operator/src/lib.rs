//! Turns a GatewayQueue into a running queue server.
//!
//! Data walks one way: [`observe`] the cluster, build what is [`desired`],
//! compare ([`drift`]), [`apply`] what differs, and tell the truth about it
//! ([`leader`], [`status`]). Only `observe`, `apply`, `admin` and `runtime` do IO.

pub mod admin;
pub mod api;
pub mod apply;
pub mod backoff;
pub mod controller;
pub mod desired;
pub mod drift;
pub mod leader;
pub mod metrics;
pub mod observe;
pub mod runtime;
pub mod settings;
pub mod sightings;
pub mod status;

/// The name under which the operator owns fields, and the value of
/// `app.kubernetes.io/managed-by` on everything it makes.
pub const MANAGER: &str = "gateway-queue-operator";
