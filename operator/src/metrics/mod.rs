//! The metrics of the operator.

mod queue_ready;

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::runtime::reflector::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelValue, EncodeMetric as _, text::encode,
};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::api::Stored;
use crate::observe::watch_health::WatchHealth;

use queue_ready::QueueReady;

/// The metrics. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    reconciles: Family<[(&'static str, Outcome); 1], Counter>,
    seconds: Histogram,
    requests: Family<[(&'static str, Verb); 1], Counter>,
    /// By scope: a namespace, or `*`.
    leader: LabelledGauge<1>,
    has_leader: LabelledGauge<1>,
    queues: QueueReady,
}

/// A kind of request to the API server, except watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(missing_docs, reason = "the verbs of the API server")]
pub enum Verb {
    Get,
    Create,
    Patch,
    PatchStatus,
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Outcome {
    Success,
    Error,
}

impl Metrics {
    /// Returns the metrics, and the registry that encodes them together with the state of the
    /// watches in `health`.
    pub fn new(health: &Arc<WatchHealth>) -> (Self, Registry) {
        let metrics = Self {
            reconciles: Family::default(),
            seconds: Histogram::new(exponential_buckets(0.001, 4.0, 8)),
            requests: Family::default(),
            leader: Family::default(),
            has_leader: Family::default(),
            queues: QueueReady::default(),
        };
        let mut registry = Registry::with_prefix("gateway_queue_operator");
        registry.register(
            "reconciles",
            "Reconciles of GatewayQueues, by result.",
            metrics.reconciles.clone(),
        );
        registry.register(
            "reconcile_duration_seconds",
            "Duration of reconciles, in seconds.",
            metrics.seconds.clone(),
        );
        registry.register(
            "api_requests",
            "Requests to the API server except watches, by verb.",
            metrics.requests.clone(),
        );
        registry.register(
            "leader",
            "Leadership of this operator, by namespace (* for all): 1 if it is the leader, 0 if it is on standby.",
            metrics.leader.clone(),
        );
        registry.register(
            "has_leader",
            "Leader that this operator knows of, by namespace (* for all): 1 if there is one, else 0.",
            metrics.has_leader.clone(),
        );
        registry.register_collector(Box::new(metrics.queues.clone()));
        registry.register_collector(Box::new(WatchUp(Arc::clone(health))));
        (metrics, registry)
    }

    /// Sets whether this operator is the leader of a scope.
    pub fn leads(&self, scope: &str, leads: bool) {
        let scope = [("scope", scope.to_owned())];
        self.leader.get_or_create(&scope).set(leads.into());
    }

    /// Returns the gauge for the leader of a scope, at 0.
    pub fn has_leader(&self, scope: &str) -> Gauge {
        let scope = [("scope", scope.to_owned())];
        self.has_leader.get_or_create_owned(&scope)
    }

    /// Exports whether these GatewayQueues are ready, while this operator is their leader.
    pub fn watch_queues(&self, queues: Store<Stored>, leads: watch::Receiver<bool>) {
        self.queues.add(queues, leads);
    }

    /// Counts a reconcile.
    pub fn reconciled(&self, succeeded: bool, duration: Duration) {
        let result = if succeeded {
            Outcome::Success
        } else {
            Outcome::Error
        };
        self.reconciles.get_or_create(&[("result", result)]).inc();
        self.seconds.observe(duration.as_secs_f64());
    }

    /// Counts a request.
    pub fn requested(&self, verb: Verb) {
        self.requests.get_or_create(&[("verb", verb)]).inc();
    }
}

/// The metric `watch_up`.
#[derive(Debug)]
struct WatchUp(Arc<WatchHealth>);

impl Collector for WatchUp {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let up = LabelledGauge::<2>::default();
        for watch in self.0.all(Instant::now()) {
            let labels = [("kind", watch.kind), ("scope", watch.scope)];
            up.get_or_create(&labels).set(watch.up.into());
        }
        let help = "State of the watch of a kind, by namespace (* for all): 1 if the API server serves it, else 0.";
        encode_gauge(&mut encoder, "watch_up", help, &up)
    }
}

/// A gauge of a collector, with these labels.
type LabelledGauge<const LABELS: usize> = Family<[(&'static str, String); LABELS], Gauge>;

/// Encodes a metric of a collector.
fn encode_gauge<const LABELS: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    gauge: &LabelledGauge<LABELS>,
) -> std::fmt::Result {
    let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
    gauge.encode(metric)
}

/// Returns the text of `/metrics`.
///
/// # Errors
/// Never in practice: writing to a String cannot fail.
pub fn text(registry: &Registry) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    encode(&mut text, registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconciles_requests_and_leadership_are_exported_with_their_labels() {
        let (metrics, registry) = Metrics::new(&Arc::default());
        metrics.reconciled(true, Duration::from_millis(2));
        metrics.requested(Verb::PatchStatus);
        metrics.leads("*", true);
        metrics.has_leader("shop");
        let text = text(&registry).unwrap();
        for series in [
            "reconciles_total{result=\"Success\"} 1",
            "api_requests_total{verb=\"PatchStatus\"} 1",
            "leader{scope=\"*\"} 1",
            "has_leader{scope=\"shop\"} 0",
        ] {
            let line = format!("gateway_queue_operator_{series}\n");
            assert!(text.contains(&line), "{line} is not in {text}");
        }
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
