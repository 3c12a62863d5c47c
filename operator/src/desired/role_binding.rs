//! The RoleBinding of the queue's ServiceAccount.

use serde_json::{Value, json};

use super::Owner;

pub(super) fn role_binding(owner: &Owner) -> Value {
    let Owner {
        name, namespace, ..
    } = owner;
    json!({
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
    })
}
