//! The Role of the queue: to read, watch and write its own Lease.
//!
//! It has no `create`: a queue without a Lease waits until the operator has created another. A
//! watch with the field selector of the name needs no `list`.

use k8s_openapi::api::rbac::v1::{PolicyRule, Role};

use super::Owner;

pub(super) fn role(owner: &Owner) -> Role {
    Role {
        metadata: owner.metadata(),
        rules: Some(vec![PolicyRule {
            api_groups: Some(vec!["coordination.k8s.io".to_owned()]),
            resources: Some(vec!["leases".to_owned()]),
            resource_names: Some(vec![owner.name.clone()]),
            verbs: ["get", "patch", "watch"].map(str::to_owned).to_vec(),
            ..PolicyRule::default()
        }]),
    }
}
