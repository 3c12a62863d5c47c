//! Creates the children of a new GatewayQueue, without reading whether they exist.
//!
//! The API server rejects a child of which the name is taken. Then the applier reads all of them.

use std::time::Instant;

use super::applier::Applier;
use super::drift::{ChildState, is_ours};
use super::requests::Error;
use crate::api::GatewayQueue;
use crate::desired::{Child, Kind, Owner};

impl Applier {
    /// Creates the `children`. Returns false if they have to be read first: some exist, or one
    /// was rejected.
    ///
    /// The Lease is the last. It may say that there was never a leader, which is only known once
    /// the Deployment has been created and so did not exist; and pods wait for their Lease.
    ///
    /// # Errors
    /// If a call fails.
    pub(super) async fn create(
        &self,
        queue: &GatewayQueue,
        children: &[Child],
        owner: &Owner,
        now: Instant,
    ) -> Result<bool, Error> {
        if children
            .iter()
            .any(|child| self.caches.metadata(child.kind, owner).is_some())
        {
            return Ok(false);
        }
        // Not read later: by then, the cache may have pods of the new Deployment.
        let may_be_first = self.may_be_first(queue, owner, now);
        let (lease, others): (Vec<_>, Vec<_>) =
            children.iter().partition(|child| child.kind == Kind::Lease);
        let mut created = Vec::new();
        for child in others.into_iter().chain(lease) {
            let response = if child.kind == Kind::Lease && may_be_first {
                self.requests.create_first_lease(owner, &queue.spec).await
            } else {
                self.requests.create(child, owner).await
            };
            match response {
                Ok(metadata) => created.push((child, metadata)),
                Err(error) if error.is_conflict() || error.rejection().is_some() => {
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        for (child, metadata) in created {
            let state = ChildState::Missing;
            self.report(queue, child, owner, &state, Some(&metadata), now);
        }
        for kind in Kind::OPTIONAL {
            if children.iter().all(|child| child.kind != kind) {
                self.drift_backoff.note_missing(owner, kind);
            }
        }
        Ok(true)
    }

    /// Deletes those `children` that exist and that this GatewayQueue owns, because an object of
    /// another owner has the name of another child.
    ///
    /// # Errors
    /// If a call fails.
    pub(super) async fn delete_created(
        &self,
        children: impl DoubleEndedIterator<Item = &Child>,
        owner: &Owner,
    ) -> Result<(), Error> {
        for child in children.rev() {
            // The cache may lag behind.
            let found = self.requests.find(child.kind, owner).await?;
            if let Some(created) = found.filter(|found| is_ours(owner, found)) {
                self.delete(child.kind, owner, created.uid.as_deref())
                    .await?;
            }
        }
        Ok(())
    }
}
