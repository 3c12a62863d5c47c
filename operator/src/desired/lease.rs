//! The Lease that the queue's pods lead by, which is also their logbook. The
//! operator sees to it that it is there and goes with the GatewayQueue; spec and
//! annotations are the queue's alone.

use gateway_queue_logbook::{RELEASED, Release};
use k8s_openapi::api::coordination::v1::Lease;

use super::Owner;

/// The Lease as it is applied. Blank, it may have come in the place of one that
/// somebody leads by, and the pods wait until that leader must have stopped.
pub(super) fn lease(owner: &Owner) -> Lease {
    Lease {
        metadata: owner.metadata(),
        spec: None,
    }
}

/// The Lease of a GatewayQueue that never had a leader: it says so, and the first
/// pod need not wait. It is for a create, never for an apply: the first leader
/// removes those words, and to apply them would put them back.
pub fn first_lease(owner: &Owner) -> Lease {
    let mut lease = lease(owner);
    let never_led = (RELEASED.to_owned(), Release::NeverLed.write());
    lease.metadata.annotations = Some([never_led].into());
    lease
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

    #[test]
    fn the_first_lease_says_that_nobody_ever_led_and_is_the_same_otherwise() {
        let mut first = first_lease(&owner());
        let annotations = first.metadata.annotations.take().unwrap();
        assert_eq!(annotations.len(), 1);
        assert_eq!(
            Release::read(&annotations[RELEASED]),
            Some(Release::NeverLed)
        );
        assert_eq!(first, lease(&owner()));
    }
}
