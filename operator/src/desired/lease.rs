//! The queue's logbook. The operator sees to it that it is there and goes with
//! the GatewayQueue; spec and annotations are the queue's alone.

use k8s_openapi::api::coordination::v1::Lease;

use super::Owner;

pub(super) fn lease(owner: &Owner) -> Lease {
    Lease {
        metadata: owner.metadata(),
        spec: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::tests::owner;

    #[test]
    fn spec_and_annotations_are_left_to_the_queue() {
        let lease = serde_json::to_value(lease(&owner())).unwrap();
        assert_eq!(lease.get("spec"), None);
        assert_eq!(lease["metadata"].get("annotations"), None);
    }
}
