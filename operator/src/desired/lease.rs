//! The Lease with which the queue's pods elect their leader, and on which they publish the queue's
//! state. The operator only creates it and sets its owner: the queue writes spec and annotations.

use gateway_queue_core::lease_state::{HANDOVER, HandoverRecord};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::metadata::Asked;
use super::{Kind, Owner, TOKEN, token_label};
use crate::api::GatewayQueueSpec;

/// The metadata of the Lease, which has no other fields when it is applied. It is blank, so pods
/// wait until the leader of a possible predecessor must have stopped.
///
/// The handover of a leader is about one token: another queue may have granted a moment ago with
/// another one. So the Lease has the hash of its token, and is replaced if that changes.
pub(super) fn metadata(owner: &Owner, spec: &GatewayQueueSpec) -> ObjectMeta {
    let mut metadata = owner.metadata(Kind::Lease, &Asked::inherited(spec));
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(TOKEN.to_owned(), token_label(spec));
    metadata
}

/// The Lease of a GatewayQueue that never had a leader. Its handover annotation states this, so
/// the first pod does not wait. It is only created, never applied: that would restore the
/// annotation, which the first leader removes.
pub fn first_lease(owner: &Owner, spec: &GatewayQueueSpec) -> Lease {
    let mut metadata = metadata(owner, spec);
    let never_led = (HANDOVER.to_owned(), HandoverRecord::NeverLed.write());
    metadata
        .annotations
        .get_or_insert_default()
        .extend([never_led]);
    Lease {
        metadata,
        spec: None,
    }
}
