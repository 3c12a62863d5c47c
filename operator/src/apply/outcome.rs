//! The result of applying the children of a GatewayQueue.

use std::time::Instant;

use super::requests::Error;
use crate::desired::{self, Kind};
use crate::observe::token_holder::Holder;

/// The result, as the status reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All children are as desired, or will be without a change of the spec.
    Applied,
    /// Objects of these kinds have the name and are not owned by the GatewayQueue.
    NameTaken(Vec<Kind>),
    /// The API server rejected a child.
    Refused {
        /// The kind of the child.
        kind: Kind,
        /// The message of the API server.
        message: String,
    },
    /// The spec is invalid.
    Invalid(String),
    /// Another GatewayQueue has the token; this one has no pods.
    TokenShared(Holder),
    /// A call failed, not for the first time.
    Failed(String),
}

/// The result, as the reconcile uses it.
#[derive(Debug)]
pub struct Applied {
    /// The result for the status.
    pub outcome: Outcome,
    /// A rejected call, to be retried.
    pub error: Option<Error>,
    /// When to recheck a child: another client keeps changing it, or its watch has not returned
    /// it yet.
    pub recheck_at: Option<Instant>,
    /// Whether a child got the operator's label, without which no store has it. Its watch
    /// will report it.
    pub labelled: bool,
}

impl Applied {
    /// A result without a problem.
    pub(super) fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            error: None,
            recheck_at: None,
            labelled: false,
        }
    }

    /// A call failed, and nothing more was done.
    pub(crate) fn failed(error: Error) -> Self {
        let mut applied = Self::new(Outcome::Failed(error.to_string()));
        applied.error = Some(error);
        applied
    }

    /// No children can be built.
    pub(crate) fn invalid(error: &desired::Error) -> Self {
        Self::new(Outcome::Invalid(error.to_string()))
    }

    /// Keeps the first rejection for later, because the other children do not depend on the
    /// rejected one. Returns any other error.
    pub(super) fn keep_rejection<T>(
        &mut self,
        result: Result<T, Error>,
        kind: Kind,
    ) -> Result<Option<T>, Error> {
        let error = match result {
            Ok(value) => return Ok(Some(value)),
            Err(error) => error,
        };
        let Some(message) = error.rejection().filter(|_| !error.namespace_terminates()) else {
            return Err(error);
        };
        if self.error.is_none() {
            let message = message.to_owned();
            self.outcome = Outcome::Refused { kind, message };
            self.error = Some(error);
        }
        Ok(None)
    }

    pub(super) fn recheck_at(&mut self, at: Instant) {
        self.recheck_at = self.recheck_at.into_iter().chain([at]).min();
    }
}
