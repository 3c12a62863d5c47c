//! Turns a GatewayQueue into a running queue server.
//!
//! Each `reconcile` does this: `observe` the cluster, build the `desired` objects, `apply` what
//! differs, write the `status`. Of several operators, the leader does (`leader_election`).

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
mod pause;
pub mod readiness;
pub mod reconcile;
pub mod runtime;
pub mod status;
#[cfg(test)]
mod testing;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The field manager of the operator, and the value of `app.kubernetes.io/managed-by` on
/// everything it creates.
pub const MANAGER: &str = "gateway-queue-operator";

/// An error that ends the program.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Locks a value. After a panic of another thread it is still consistent, because no change of
/// these values can panic halfway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
