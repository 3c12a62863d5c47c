//! A client that creates what the operator creates, by the same requests, and does nothing else:
//! the best that an operator can do.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::{ACCOUNT, Api, BINDING, DEPLOYMENT, Kind, LEASE, ROLE, SERVICE, kind};

/// The requests at the same time: as many as the operator's reconciles.
const THREADS: usize = 8;

/// In place of a GatewayQueue, for which the operator would create children.
const CONFIG: Kind = kind("ConfigMap", "v1", "configmaps");

/// Creates the children of these queues in another namespace, each as those of `model`, and an
/// object for the queue itself. Returns how long that took.
pub(super) fn create(
    api: &Api,
    (namespace, model): (&str, &str),
    target: &str,
    queues: &[String],
) -> Duration {
    let children = [ACCOUNT, ROLE, BINDING, LEASE, SERVICE, DEPLOYMENT].map(|kind| {
        let child = api.get(kind, namespace, model).unwrap();
        (kind, bare(child))
    });
    let config = json!({"apiVersion": CONFIG.version, "kind": CONFIG.word, "metadata": {}});
    let objects: Vec<(Kind, Value)> = [(CONFIG, config)].into_iter().chain(children).collect();
    let started = Instant::now();
    thread::scope(|scope| {
        for queues in queues.chunks(queues.len().div_ceil(THREADS)) {
            let objects = &objects;
            scope.spawn(move || {
                let api = Api::new();
                for queue in queues {
                    for (kind, object) in objects {
                        let mut object = object.clone();
                        object["metadata"]["name"] = json!(queue);
                        api.apply(*kind, target, queue, &object).unwrap();
                    }
                }
            });
        }
    });
    started.elapsed()
}

/// The object as a client creates it. Without labels, the operator does not watch it.
fn bare(mut object: Value) -> Value {
    object["metadata"] = json!({});
    let fields = object.as_object_mut().unwrap();
    fields.remove("status");
    if let Some(spec) = object["spec"].as_object_mut() {
        spec.retain(|field, _| !field.starts_with("clusterIP"));
    }
    object
}
