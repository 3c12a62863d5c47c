//! Turns a GatewayQueue into a running queue server.
//!
//! Data walks one way: [`observe`] the cluster, build what is [`desired`],
//! compare ([`drift`]), [`apply`] what differs ([`converge`]), and tell the truth
//! about it ([`leader`], [`status`], [`report`]). Of several operators one does
//! so ([`election`]). Only `observe`, `apply`, `events`, `election`, `client`, `admin`,
//! `check` and `runtime` do IO.

pub mod admin;
pub mod allowance;
pub mod api;
pub mod apply;
pub mod backoff;
pub mod check;
pub mod client;
pub mod controller;
pub mod converge;
pub mod desired;
pub mod drift;
pub mod election;
pub mod events;
pub mod leader;
pub mod metrics;
pub mod observe;
mod parts;
pub mod queue_ready;
pub mod readiness;
pub mod repairs;
pub mod report;
pub mod runtime;
pub mod settings;
pub mod sightings;
pub mod status;
pub mod stores;
pub mod tokens;
pub mod told;
pub mod watch_health;
pub mod watch_retry;

/// The name under which the operator owns fields, and the value of
/// `app.kubernetes.io/managed-by` on everything it makes.
pub const MANAGER: &str = "gateway-queue-operator";
