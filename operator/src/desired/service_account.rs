//! The ServiceAccount of the queue's pods.

use serde_json::{Value, json};

pub(super) fn service_account() -> Value {
    // The pod mounts its credentials explicitly.
    json!({"automountServiceAccountToken": false})
}
