//! What every reconcile needs, and how one fails.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use crate::apply::applier::Applier;
use crate::apply::requests;
use crate::desired::{self, QueueDefaults};
use crate::metrics::Metrics;
use crate::reconcile::backoff::Backoffs;
use crate::status::writer::StatusWriter;

/// Why a reconcile failed. It is retried with exponential backoff.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No children can be built.
    #[error(transparent)]
    Desired(#[from] desired::Error),
    /// A request failed.
    #[error(transparent)]
    Request(#[from] requests::Error),
}

/// What every reconcile of a scope needs.
pub struct Context {
    /// The settings of queues.
    pub defaults: QueueDefaults,
    /// Applies children.
    pub applier: Applier,
    /// Writes the status.
    pub status_writer: StatusWriter,
    /// The failures of each object.
    pub backoffs: Backoffs,
    /// Counts reconciles.
    pub metrics: Metrics,
    /// Whether this operator is the leader of the scope, or on standby.
    pub is_leader: watch::Receiver<bool>,
    /// A permit for each running reconcile, shared by the controllers of all scopes.
    pub permits: Arc<Semaphore>,
}
