//! What the operator counts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::runtime::reflector::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric as _, text::encode,
};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::api::Stored;
use crate::observe::watch_health::WatchHealth;
use crate::status::queue_ready::QueueReady;

/// The counters; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    reconciles: Family<Result, Counter>,
    seconds: Histogram,
    calls: Family<Call, Counter>,
    leader: Family<Scope, Gauge>,
    has_leader: Family<Scope, Gauge>,
    queues: QueueReady,
}

/// A kind of call to the API server, watches aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(missing_docs, reason = "the verbs of the API server")]
pub enum Verb {
    Get,
    Create,
    Patch,
    PatchStatus,
    Delete,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    verb: Verb,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Scope {
    /// A namespace, or `*`.
    scope: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Result {
    result: Word,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Word {
    Success,
    Error,
}

impl Metrics {
    /// Counters at zero, and the registry that prints them, with the state of the
    /// watches in `health`.
    pub fn new(health: &Arc<WatchHealth>) -> (Self, Registry) {
        let metrics = Self {
            reconciles: Family::default(),
            seconds: Histogram::new(exponential_buckets(0.001, 4.0, 8)),
            calls: Family::default(),
            leader: Family::default(),
            has_leader: Family::default(),
            queues: QueueReady::default(),
        };
        let mut registry = Registry::with_prefix("gateway_queue_operator");
        registry.register(
            "reconciles",
            "Reconciles of a GatewayQueue",
            metrics.reconciles.clone(),
        );
        registry.register(
            "reconcile_duration_seconds",
            "How long a reconcile took",
            metrics.seconds.clone(),
        );
        registry.register(
            "api_requests",
            "Calls to the API server, watches aside: none without a cause",
            metrics.calls.clone(),
        );
        registry.register(
            "leader",
            "Whether this operator is the leader (1) of a namespace, or of all (*), or on standby (0)",
            metrics.leader.clone(),
        );
        registry.register(
            "has_leader",
            "Whether this operator knows of a leader (1), itself or another, of a namespace, or of all (*)",
            metrics.has_leader.clone(),
        );
        registry.register_collector(Box::new(metrics.queues.clone()));
        registry.register_collector(Box::new(WatchUp(Arc::clone(health))));
        (metrics, registry)
    }

    /// Notes whether this operator is the leader of a scope.
    pub fn leads(&self, scope: &str, leads: bool) {
        let scope = scope.to_owned();
        self.leader
            .get_or_create(&Scope { scope })
            .set(leads.into());
    }

    /// The gauge whether a scope has a leader, at 0.
    pub fn has_leader(&self, scope: &str) -> Gauge {
        let scope = scope.to_owned();
        self.has_leader.get_or_create_owned(&Scope { scope })
    }

    /// From now on, exports whether these GatewayQueues are ready, while this operator
    /// is their leader.
    pub fn watch_queues(&self, queues: Store<Stored>, leads: watch::Receiver<bool>) {
        self.queues.add(queues, leads);
    }

    /// Counts a reconcile.
    pub fn reconciled(&self, well: bool, took: Duration) {
        let result = if well { Word::Success } else { Word::Error };
        self.reconciles.get_or_create(&Result { result }).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// Counts a call.
    pub fn called(&self, verb: Verb) {
        self.calls.get_or_create(&Call { verb }).inc();
    }
}

/// Whether each watch works.
#[derive(Debug)]
struct WatchUp(Arc<WatchHealth>);

impl Collector for WatchUp {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let up = Family::<[(&str, String); 2], Gauge>::default();
        for watch in self.0.all(Instant::now()) {
            let labels = [("kind", watch.kind), ("scope", watch.scope)];
            up.get_or_create(&labels).set(watch.up.into());
        }
        let help =
            "Whether the API server serves the watch of a kind (1), in a namespace or in all (*)";
        let metric = encoder.encode_descriptor("watch_up", help, None, up.metric_type())?;
        up.encode(metric)
    }
}

/// The text of `/metrics`.
///
/// # Errors
/// Never in practice: a String takes whatever is written.
pub fn text(registry: &Registry) -> std::result::Result<String, std::fmt::Error> {
    let mut text = String::new();
    encode(&mut text, registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconciles_and_calls_are_counted_by_kind() {
        let (metrics, registry) = Metrics::new(&Arc::default());
        metrics.reconciled(true, Duration::from_millis(2));
        metrics.called(Verb::PatchStatus);
        let text = text(&registry).unwrap();
        assert!(text.contains("gateway_queue_operator_reconciles_total{result=\"Success\"} 1"));
        assert!(text.contains("gateway_queue_operator_api_requests_total{verb=\"PatchStatus\"} 1"));
    }

    #[test]
    fn each_watch_is_exported_whether_it_works_or_not() {
        let health = Arc::<WatchHealth>::default();
        let (_, registry) = Metrics::new(&health);
        health.add("/pods", "Pod", "*");
        health.add("/leases", "Lease", "*");
        health.connected("/pods", Instant::now());
        let text = text(&registry).unwrap();
        let up = "gateway_queue_operator_watch_up{kind=\"Pod\",scope=\"*\"} 1\n";
        let down = "gateway_queue_operator_watch_up{kind=\"Lease\",scope=\"*\"} 0\n";
        assert!(text.contains(up) && text.contains(down), "{text}");
    }
}
