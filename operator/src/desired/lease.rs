//! The Lease that the queue's pods lead by, which also carries their lease state. The
//! operator sees to it that it is there and goes with the GatewayQueue; spec and
//! annotations are the queue's alone.

use gateway_queue_core::lease_state::{HANDOVER, Release};
use k8s_openapi::api::coordination::v1::Lease;

use super::{Owner, TOKEN, token_label};
use crate::api::GatewayQueueSpec;

/// The Lease as it is applied. Blank, it may have come in the place of one that
/// somebody leads by, and the pods wait until that leader must have stopped.
///
/// It is of one token: what the last leader left says nothing about another one, of
/// which another queue may have granted a moment ago. So it carries the token's hash,
/// and one that carries another is replaced.
pub(super) fn lease(owner: &Owner, spec: &GatewayQueueSpec) -> Lease {
    let mut metadata = owner.metadata();
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(TOKEN.to_owned(), token_label(spec));
    Lease {
        metadata,
        spec: None,
    }
}

/// The Lease of a GatewayQueue that never had a leader: it says so, and the first
/// pod need not wait. It is for a create, never for an apply: the first leader
/// removes those words, and to apply them would put them back.
pub fn first_lease(owner: &Owner, spec: &GatewayQueueSpec) -> Lease {
    let mut lease = lease(owner, spec);
    let never_led = (HANDOVER.to_owned(), Release::NeverLed.write());
    lease.metadata.annotations = Some([never_led].into());
    lease
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{owner, queue};

    fn spec(secret: Option<&str>) -> GatewayQueueSpec {
        let token = secret.map(|name| serde_json::json!({"name": name}));
        queue(serde_json::json!({"tokenSecretRef": token})).spec
    }

    #[test]
    fn a_lease_carries_the_hash_of_its_token_and_not_its_name() {
        let hash = |secret| {
            let labels = lease(&owner(), &spec(secret)).metadata.labels.unwrap();
            labels[TOKEN].clone()
        };
        assert_eq!(hash(None), "none");
        assert_eq!(hash(Some("a")), hash(Some("a")));
        assert_ne!(hash(Some("a")), hash(Some("b")));
        assert!(!hash(Some("discord")).contains("discord"));
    }

    #[test]
    fn spec_and_annotations_are_left_to_the_queue() {
        let lease = serde_json::to_value(lease(&owner(), &spec(None))).unwrap();
        assert_eq!(lease.get("spec"), None);
        assert_eq!(lease["metadata"].get("annotations"), None);
    }

    #[test]
    fn the_first_lease_says_that_nobody_ever_led_and_is_the_same_otherwise() {
        let mut first = first_lease(&owner(), &spec(None));
        let annotations = first.metadata.annotations.take().unwrap();
        assert_eq!(annotations.len(), 1);
        assert_eq!(
            Release::read(&annotations[HANDOVER]),
            Some(Release::NeverLed)
        );
        assert_eq!(first, lease(&owner(), &spec(None)));
    }
}
