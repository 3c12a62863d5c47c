//! The Role of the queue: to read, watch and write its own Lease.
//!
//! It has no `create`: a queue without a Lease waits until the operator has created another. A
//! watch with the field selector of the name needs no `list`.

use serde_json::{Value, json};

use super::{Kind, Owner};

pub(super) fn role(owner: &Owner) -> Value {
    json!({"rules": [{
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resourceNames": [Kind::Lease.name_for(owner)],
        "verbs": ["get", "patch", "watch"],
    }]})
}
