//! The RoleBinding of the queue's ServiceAccount.

use serde_json::{Value, json};

use super::{Kind, Owner};

pub(super) fn role_binding(owner: &Owner) -> Value {
    let role = Kind::Role.name_for(owner);
    let account = Kind::ServiceAccount.name_for(owner);
    json!({
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
        "subjects": [
            {"kind": "ServiceAccount", "name": account, "namespace": owner.namespace},
        ],
    })
}
