//! `gateway_queue_operator_queue_ready`: for each GatewayQueue one series, as its status
//! has it. It is read from the cache when it is asked for, so that it goes with the
//! GatewayQueue, and so that alerts have a series when a queue has no pods.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::ResourceExt as _;
use kube::runtime::reflector::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;

use crate::api::Stored;
use crate::status::READY;

/// The reason before a first status was written.
const UNKNOWN: &str = "Unknown";

/// The GatewayQueues of all scopes; clones share them.
#[derive(Clone, Default)]
pub struct QueueReady(Arc<Mutex<Vec<Scope>>>);

/// The GatewayQueues of a scope, and whether this operator is its leader. Another
/// operator exports them otherwise.
type Scope = (Store<Stored>, watch::Receiver<bool>);

impl QueueReady {
    /// Adds the GatewayQueues of a scope.
    pub fn add(&self, queues: Store<Stored>, leads: watch::Receiver<bool>) {
        self.lock().push((queues, leads));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Scope>> {
        // Whole at every moment, whatever happened to another thread.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for QueueReady {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueueReady").finish_non_exhaustive()
    }
}

impl Collector for QueueReady {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let ready = Family::<[(&str, String); 3], Gauge>::default();
        for (queues, leads) in self.lock().iter() {
            let queues = if *leads.borrow() {
                queues.state()
            } else {
                Vec::new()
            };
            for queue in queues {
                let (is_ready, reason) = state(&queue);
                let labels = [
                    ("namespace", queue.namespace().unwrap_or_default()),
                    ("name", queue.name_any()),
                    ("reason", reason.to_owned()),
                ];
                ready.get_or_create(&labels).set(is_ready.into());
            }
        }
        let metric = encoder.encode_descriptor(
            "queue_ready",
            "Whether the condition Ready of a GatewayQueue is True (1), with its reason",
            None,
            ready.metric_type(),
        )?;
        ready.encode(metric)
    }
}

/// Whether a GatewayQueue is ready, and the reason.
fn state(queue: &Stored) -> (bool, &str) {
    let status = match queue {
        Stored::Queue(queue) => queue.status.as_ref(),
        Stored::Unreadable(unreadable) => unreadable.status.as_ref(),
    };
    let mut conditions = status
        .and_then(|status| status.conditions.as_deref())
        .into_iter()
        .flatten();
    let ready = conditions.find(|condition| condition.type_ == READY);
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

    fn queue(name: &str, spec: Value, ready: Option<(&str, &str)>) -> Stored {
        let conditions: Vec<_> = ready
            .map(|(status, reason)| {
                json!({"type": "Ready", "status": status, "reason": reason, "message": "",
                       "lastTransitionTime": "2026-11-23T12:00:00Z"})
            })
            .into_iter()
            .collect();
        serde_json::from_value(json!({
            "apiVersion": "gatewayqueue.dev/v1alpha1", "kind": "GatewayQueue",
            "metadata": {"name": name, "namespace": "shop", "uid": name},
            "spec": spec, "status": {"conditions": conditions},
        }))
        .unwrap()
    }

    impl Cluster {
        fn put(&mut self, name: &str, ready: Option<(&str, &str)>) {
            let queue = queue(name, json!({}), ready);
            self.writer.apply_watcher_event(&Event::Apply(queue));
        }

        /// The series: name, reason and value of each.
        fn series(&self) -> Vec<String> {
            let text = crate::metrics::text(&self.registry).unwrap();
            let lines = text.lines().filter_map(|line| {
                line.strip_prefix("gateway_queue_operator_queue_ready{namespace=\"shop\",name=")
            });
            let mut series: Vec<_> = lines.map(str::to_owned).collect();
            series.sort();
            series
        }
    }

    #[test]
    fn each_gatewayqueue_has_one_series_with_the_reason_of_its_status() {
        let mut cluster = cluster();
        cluster.put("a", Some(("True", "Granting")));
        cluster.put("b", None);
        let granting = "\"a\",reason=\"Granting\"} 1";
        let unknown = "\"b\",reason=\"Unknown\"} 0";
        assert_eq!(cluster.series(), [granting, unknown]);

        cluster.put("a", Some(("False", "ImagePullFailed")));
        let failed = "\"a\",reason=\"ImagePullFailed\"} 0";
        assert_eq!(cluster.series(), [failed, unknown]);
        let unreadable = queue("b", json!({"port": "abc"}), Some(("False", "InvalidSpec")));
        assert!(matches!(unreadable, Stored::Unreadable(_)));
        cluster
            .writer
            .apply_watcher_event(&Event::Apply(unreadable));
        let invalid = "\"b\",reason=\"InvalidSpec\"} 0";
        assert_eq!(cluster.series(), [failed, invalid]);
    }

    #[test]
    fn a_series_goes_with_its_gatewayqueue_also_when_nobody_saw_it_go() {
        let mut cluster = cluster();
        for name in ["a", "b", "c"] {
            cluster.put(name, Some(("True", "Granting")));
        }
        let gone = queue("a", json!({}), None);
        cluster.writer.apply_watcher_event(&Event::Delete(gone));
        assert_eq!(cluster.series().len(), 2);
        // A new list, after a time in which the API server was away.
        let kept = queue("b", json!({}), Some(("True", "Granting")));
        for event in [Event::Init, Event::InitApply(kept), Event::InitDone] {
            cluster.writer.apply_watcher_event(&event);
        }
        assert_eq!(cluster.series(), ["\"b\",reason=\"Granting\"} 1"]);
    }

    #[test]
    fn only_the_leader_exports() {
        let mut cluster = cluster();
        cluster.put("a", Some(("True", "Granting")));
        cluster.leads.send_replace(false);
        assert_eq!(cluster.series(), Vec::<String>::new());
        cluster.leads.send_replace(true);
        assert_eq!(cluster.series().len(), 1);
    }
}
