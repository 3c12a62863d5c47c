//! What tests of several modules need.

use std::time::{Duration, Instant};

use http::request::Parts;
use http::{Request, Response};
use kube::Client;
use kube::client::Body;
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

/// A client of a mocked API server. `answer` returns the code and the body of each response, or
/// none for a request that is never answered.
pub(crate) fn mock_client(
    mut answer: impl FnMut(&Parts, Value) -> Option<(u16, Value)> + Send + 'static,
) -> Client {
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    tokio::spawn(async move {
        let mut unanswered = Vec::new();
        while let Some((request, send)) = handle.next_request().await {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap();
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let Some((code, body)) = answer(&parts, body) else {
                unanswered.push(send);
                continue;
            };
            let body = Body::from(serde_json::to_vec(&body).unwrap());
            send.send_response(Response::builder().status(code).body(body).unwrap());
        }
    });
    Client::new(service, "default")
}

/// The response to a failed request.
pub(crate) fn failure(code: u16, message: &str) -> (u16, Value) {
    let reason = if code == 404 { "NotFound" } else { "" };
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
        "message": message, "reason": reason, "code": code});
    (code, status)
}
