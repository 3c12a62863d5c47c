//! What every reconcile needs, and how one fails.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use crate::apply::drift_backoff::DriftBackoff;
use crate::apply::requests::{self, Cluster};
use crate::desired::{self, QueueDefaults};
use crate::events::recorder::Events;
use crate::metrics::Metrics;
use crate::observe::caches::Caches;
use crate::observe::token_claims::TokenClaims;
use crate::reconcile::backoff::Backoffs;
use crate::reconcile::last_written::LastWritten;

/// Why a reconcile failed. It is retried with exponential backoff.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The spec gives no children.
    #[error(transparent)]
    Desired(#[from] desired::Error),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] requests::Error),
}

/// All that a reconcile needs.
pub struct Context {
    /// Makes the calls.
    pub cluster: Cluster,
    /// What is there.
    pub caches: Caches,
    /// Who shares a token.
    pub token_claims: Arc<TokenClaims>,
    /// What queues are made of.
    pub defaults: QueueDefaults,
    /// The failures of each object.
    pub backoffs: Backoffs,
    /// The children that somebody keeps changing.
    pub drift_backoff: DriftBackoff,
    /// What was told of each.
    pub last_written: LastWritten,
    /// Where events are left.
    pub events: Events,
    /// The counters.
    pub metrics: Metrics,
    /// Whether this operator is the leader of the namespaces, or on standby.
    pub works: watch::Receiver<bool>,
    /// A place for each reconcile, shared by the controllers of all namespaces.
    pub places: Arc<Semaphore>,
}
