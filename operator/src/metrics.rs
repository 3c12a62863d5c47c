//! What the operator counts.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The counters; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    reconciles: Family<Result, Counter>,
    seconds: Histogram,
    calls: Family<Call, Counter>,
    works: Gauge,
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
struct Result {
    result: Word,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Word {
    Success,
    Error,
}

impl Metrics {
    /// Counters at zero, and the registry that prints them.
    pub fn new() -> (Self, Registry) {
        let metrics = Self {
            reconciles: Family::default(),
            seconds: Histogram::new(exponential_buckets(0.001, 4.0, 8)),
            calls: Family::default(),
            works: Gauge::default(),
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
            "api_calls",
            "Calls to the API server, watches aside: none without a cause",
            metrics.calls.clone(),
        );
        registry.register(
            "works",
            "Whether this operator works (1), or stands by for another that does (0)",
            metrics.works.clone(),
        );
        (metrics, registry)
    }

    /// Notes whether this operator works.
    pub fn works(&self, works: bool) {
        self.works.set(works.into());
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
        let (metrics, registry) = Metrics::new();
        metrics.reconciled(true, Duration::from_millis(2));
        metrics.called(Verb::PatchStatus);
        let text = text(&registry).unwrap();
        assert!(text.contains("gateway_queue_operator_reconciles_total{result=\"Success\"} 1"));
        assert!(text.contains("gateway_queue_operator_api_calls_total{verb=\"PatchStatus\"} 1"));
    }
}
