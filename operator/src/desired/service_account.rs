//! The identity of the queue's pod towards the API server.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::Owner;

pub(super) fn service_account(owner: &Owner) -> ServiceAccount {
    ServiceAccount {
        metadata: owner.metadata(),
        // The pod asks for its credentials itself; another pod that is given
        // this account by mistake gets none.
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::owner;

    #[test]
    fn the_account_hands_out_no_credentials_by_itself() {
        let account = service_account(&owner());
        assert_eq!(account.automount_service_account_token, Some(false));
        assert_eq!(account.metadata.name.as_deref(), Some("my-bot"));
    }
}
