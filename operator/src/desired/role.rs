//! What the queue may do: read, watch and write its own Lease, nothing else.
//!
//! No create: a queue whose Lease is gone stops, and waits for the operator to
//! make another. A watch with the field selector of this name needs no list.

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::owner;

    #[test]
    fn the_queue_may_touch_its_own_lease_only() {
        let rules = role(&owner()).rules.unwrap();
        assert_eq!(rules.len(), 1);
        assert_eq!(rules[0].resource_names, Some(vec!["my-bot".to_owned()]));
        assert_eq!(rules[0].verbs, ["get", "patch", "watch"]);
    }
}
