//! The metrics `queue_ready` and `queue_has_leader`: one series of each for every
//! GatewayQueue, from its status; of the second only if it has replicas. They are read from
//! the cache at each scrape, so that they end with the GatewayQueue, and so that alerts have a
//! series for a queue that has no pods or whose pods are not scraped.

use std::sync::{Arc, Mutex};

use kube::ResourceExt as _;
use kube::runtime::reflector::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use tokio::sync::watch;

use super::{LabelledGauge, encode_gauge};
use crate::api::{ConditionType, GatewayQueueStatus, Stored};
use crate::lock;

/// The reason before the first status is written.
const UNKNOWN: &str = "Unknown";

/// The GatewayQueues of all scopes; clones share them.
#[derive(Clone, Default)]
pub(super) struct QueueReady(Arc<Mutex<Vec<Scope>>>);

/// The GatewayQueues of a scope, and whether this operator is its leader: only the leader
/// exports them.
type Scope = (Store<Stored>, watch::Receiver<bool>);

impl QueueReady {
    /// Adds the GatewayQueues of a scope.
    pub(super) fn add(&self, queues: Store<Stored>, leads: watch::Receiver<bool>) {
        lock(&self.0).push((queues, leads));
    }
}

impl std::fmt::Debug for QueueReady {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueueReady").finish_non_exhaustive()
    }
}

impl Collector for QueueReady {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let ready = LabelledGauge::<3>::default();
        let led = LabelledGauge::<2>::default();
        for (queues, leads) in lock(&self.0).iter() {
            let queues = if *leads.borrow() {
                queues.state()
            } else {
                Vec::new()
            };
            for queue in queues {
                let status = queue.status();
                let (is_ready, reason) = readiness(status);
                let namespace = ("namespace", queue.namespace().unwrap_or_default());
                let name = ("name", queue.name_any());
                if has_replicas(&queue) {
                    let has_leader = status.is_some_and(|status| status.leader.is_some());
                    led.get_or_create(&[namespace.clone(), name.clone()])
                        .set(has_leader.into());
                }
                let labels = [namespace, name, ("reason", reason.to_owned())];
                ready.get_or_create(&labels).set(is_ready.into());
            }
        }
        let help = "Condition Ready of the GatewayQueue, by reason: 1 if True, else 0.";
        encode_gauge(&mut encoder, "queue_ready", help, &ready)?;
        let help =
            "Leader in the status of a GatewayQueue with replicas: 1 if there is one, else 0.";
        encode_gauge(&mut encoder, "queue_has_leader", help, &led)
    }
}

/// Whether the spec of a queue is readable and asks for pods.
fn has_replicas(queue: &Stored) -> bool {
    matches!(queue, Stored::Queue(queue) if queue.spec.replicas > 0)
}

/// Whether the condition `Ready` is True, and its reason.
fn readiness(status: Option<&GatewayQueueStatus>) -> (bool, &str) {
    let ready = status.and_then(|status| status.condition(ConditionType::Ready));
    ready.map_or((false, UNKNOWN), |ready| {
        (ready.status == "True", ready.reason.as_str())
    })
}

#[cfg(test)]
mod tests {
    use kube::runtime::reflector::store;
    use kube::runtime::reflector::store::Writer;
    use kube::runtime::watcher::Event;
    use prometheus_client::registry::Registry;
    use serde_json::{Value, json};

    use super::*;

    struct Cluster {
        writer: Writer<Stored>,
        leads: watch::Sender<bool>,
        registry: Registry,
    }

    fn cluster() -> Cluster {
        let (queues, writer) = store();
        let (leads, leading) = watch::channel(true);
        let ready = QueueReady::default();
        ready.add(queues, leading);
        let mut registry = Registry::with_prefix("gateway_queue_operator");
        registry.register_collector(Box::new(ready));
        Cluster {
            writer,
            leads,
            registry,
        }
    }

    fn queue(name: &str, spec: Value, status: Value) -> Stored {
        serde_json::from_value(json!({
            "apiVersion": "gatewayqueue.dev/v1alpha1", "kind": "GatewayQueue",
            "metadata": {"name": name, "namespace": "shop", "uid": name},
            "spec": spec, "status": status,
        }))
        .unwrap()
    }

    /// A status with this condition `Ready`.
    fn ready(status: &str, reason: &str) -> Value {
        json!({"conditions": [{"type": "Ready", "status": status, "reason": reason, "message": "",
            "lastTransitionTime": "2026-11-23T12:00:00Z"}]})
    }

    impl Cluster {
        fn put(&mut self, name: &str, spec: Value, status: Value) {
            let queue = queue(name, spec, status);
            self.writer.apply_watcher_event(&Event::Apply(queue));
        }

        /// The series of a metric: the labels after the namespace, and the value of each.
        fn series(&self, metric: &str) -> Vec<String> {
            let text = crate::metrics::text(&self.registry).unwrap();
            let start = format!("gateway_queue_operator_{metric}{{namespace=\"shop\",name=");
            let lines = text.lines().filter_map(|line| line.strip_prefix(&start));
            let mut series: Vec<_> = lines.map(str::to_owned).collect();
            series.sort();
            series
        }
    }

    #[test]
    fn each_gatewayqueue_has_one_series_with_the_reason_of_its_status() {
        let mut cluster = cluster();
        cluster.put("a", json!({}), ready("True", "Granting"));
        cluster.put("b", json!({}), Value::Null);
        let granting = "\"a\",reason=\"Granting\"} 1";
        let unknown = "\"b\",reason=\"Unknown\"} 0";
        assert_eq!(cluster.series("queue_ready"), [granting, unknown]);

        cluster.put("a", json!({}), ready("False", "ImagePullFailed"));
        // Its spec is unreadable.
        cluster.put("b", json!({"port": "abc"}), ready("False", "InvalidSpec"));
        let failed = "\"a\",reason=\"ImagePullFailed\"} 0";
        let invalid = "\"b\",reason=\"InvalidSpec\"} 0";
        assert_eq!(cluster.series("queue_ready"), [failed, invalid]);
    }

    #[test]
    fn each_gatewayqueue_with_replicas_has_a_series_for_its_leader() {
        let mut cluster = cluster();
        cluster.put("a", json!({}), Value::Null);
        cluster.put("b", json!({}), json!({"leader": "b-queue-1"}));
        let series = |cluster: &Cluster| cluster.series("queue_has_leader");
        assert_eq!(series(&cluster), ["\"a\"} 0", "\"b\"} 1"]);
        cluster.put("b", json!({"replicas": 0}), ready("False", "NameTaken"));
        assert_eq!(series(&cluster), ["\"a\"} 0"]);
        cluster.leads.send_replace(false);
        assert_eq!(series(&cluster), [""; 0]);
    }

    #[test]
    fn a_series_ends_with_its_gatewayqueue_even_if_the_deletion_was_not_observed() {
        let mut cluster = cluster();
        for name in ["a", "b", "c"] {
            cluster.put(name, json!({}), ready("True", "Granting"));
        }
        let gone = queue("a", json!({}), Value::Null);
        cluster.writer.apply_watcher_event(&Event::Delete(gone));
        assert_eq!(cluster.series("queue_ready").len(), 2);
        // A new list, after the API server was unreachable.
        let kept = queue("b", json!({}), ready("True", "Granting"));
        for event in [Event::Init, Event::InitApply(kept), Event::InitDone] {
            cluster.writer.apply_watcher_event(&event);
        }
        assert_eq!(
            cluster.series("queue_ready"),
            ["\"b\",reason=\"Granting\"} 1"]
        );
    }

    #[test]
    fn only_the_leader_exports() {
        let mut cluster = cluster();
        cluster.put("a", json!({}), ready("True", "Granting"));
        cluster.leads.send_replace(false);
        assert_eq!(cluster.series("queue_ready"), Vec::<String>::new());
        cluster.leads.send_replace(true);
        assert_eq!(cluster.series("queue_ready").len(), 1);
    }
}
