//! The ServiceAccount of the queue's pods.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::Owner;

pub(super) fn service_account(owner: &Owner) -> ServiceAccount {
    ServiceAccount {
        metadata: owner.metadata(),
        // The pod mounts its credentials explicitly.
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
