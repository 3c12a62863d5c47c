//! The Service that all shards use.

use serde_json::{Value, json};

use super::Owner;
use super::deployment::QUEUE_PORT;
use crate::api::ServiceSettings;

pub(super) fn service(owner: &Owner, settings: &ServiceSettings) -> Value {
    json!({"spec": {
        "type": settings.type_.as_str(),
        "selector": owner.selector(),
        "ports": [{
            "name": QUEUE_PORT,
            "port": settings.port,
            "protocol": "TCP",
            "targetPort": QUEUE_PORT,
        }],
    }})
}
