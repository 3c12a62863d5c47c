//! What tests of several modules need.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::GatewayQueue;
use crate::desired::{Owner, QueueDefaults};

/// The identity of [`queue`].
pub(crate) fn owner() -> Owner {
    Owner {
        name: "my-bot".to_owned(),
        namespace: "shop".to_owned(),
        uid: "0001".to_owned(),
    }
}

/// A GatewayQueue with this spec.
pub(crate) fn queue(spec: Value) -> GatewayQueue {
    serde_json::from_value(json!({
        "apiVersion": "gatewayqueue.dev/v1alpha1",
        "kind": "GatewayQueue",
        "metadata": {"name": "my-bot", "namespace": "shop", "uid": "0001", "generation": 1},
        "spec": spec,
    }))
    .unwrap()
}

pub(crate) fn defaults() -> QueueDefaults {
    QueueDefaults {
        image: "gateway-queue:1".to_owned(),
        image_pull_policy: None,
        image_pull_secrets: Vec::new(),
    }
}

pub(crate) fn after(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}
