//! The metrics.
//!
//! Counters and histograms are updated as things happen. Gauges are computed from a
//! snapshot of the queue for each scrape, so that they always agree with `/state`. A gauge
//! that only a leader knows is absent on every other pod, so that an alert never uses a
//! stale value.

use std::fmt;
use std::time::Duration;

use gateway_queue_core::leadership::leader_health::Health;
use gateway_queue_core::leadership::state::Role;
use gateway_queue_core::lease_state::BlockedBy;
use gateway_queue_core::pacing::discord_retry::Outcome;
use gateway_queue_core::protocol::request::Report;
use gateway_queue_core::queue::snapshot::Snapshot;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The buckets of the waiting time, in seconds: up to the day that a large bot may take.
const WAIT_SECONDS: [f64; 10] = [
    0.01, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0,
];

/// The buckets of the lateness of a grant, in seconds; at most 2 ms are promised.
const LATENESS_SECONDS: [f64; 8] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0];

/// The names and values of a metric's labels.
type Labels<const N: usize> = [(&'static str, &'static str); N];

/// The counters and histograms of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reserve: u64,
    grants: Counter,
    wait: Histogram,
    lateness: Histogram,
    fetches: Family<Labels<1>, Counter>,
    refused: Family<Labels<1>, Counter>,
    reports: Family<Labels<1>, Counter>,
    lease: Family<Labels<2>, Counter>,
    forwarded: Family<Labels<1>, Counter>,
    pub(crate) held_requests: Gauge,
    pub(crate) cancelled: Counter,
    pub(crate) reservations_used: Counter,
    pub(crate) invalid_shards: Counter,
    pub(crate) invalid_max_concurrency: Counter,
}

impl Metrics {
    /// Returns metrics that are zero. `reserve` is the setting SESSION_RESERVE.
    pub fn new(reserve: u64) -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("gateway_queue"),
            reserve,
            grants: Counter::default(),
            wait: Histogram::new(WAIT_SECONDS),
            lateness: Histogram::new(LATENESS_SECONDS),
            fetches: Family::default(),
            refused: Family::default(),
            reports: Family::default(),
            lease: Family::default(),
            forwarded: Family::default(),
            held_requests: Gauge::default(),
            cancelled: Counter::default(),
            reservations_used: Counter::default(),
            invalid_shards: Counter::default(),
            invalid_max_concurrency: Counter::default(),
        };
        macro_rules! register {
            ($($name:literal, $help:literal, $field:ident;)*) => {
                $(metrics.registry.register($name, $help, metrics.$field.clone());)*
            };
        }
        register! {
            "grants", "Grants", grants;
            "cancelled_requests", "Waiters that disconnected before their grant", cancelled;
            "reservations_used", "Waiters that returned to their reserved position", reservations_used;
            "invalid_shards", "Accepted requests whose `shard` is missing, invalid or given twice", invalid_shards;
            "refusals", "Refusals (429 and 400), to clients with `wait` or `report`, by reason", refused;
            "reports", "Reports of clients about their shards, by report", reports;
            "lease_requests", "Requests about the Lease, by operation and outcome", lease;
            "forwarded_requests", "Requests forwarded to the leader or the upstream, by outcome", forwarded;
            "held_requests", "Requests that wait on this pod, whichever pod grants them", held_requests;
            "invalid_max_concurrency", "Responses from Discord with an impossible max_concurrency", invalid_max_concurrency;
            "wait_seconds", "Time from a request to its grant, in seconds", wait;
            "grant_lateness_seconds", "Time from the earliest instant allowed to the grant, in seconds", lateness;
            "discord_requests", "Requests to Discord for the limits, by outcome", fetches;
        }
        metrics
    }

    pub(crate) fn granted(&self, waited: Duration, late: Duration) {
        self.grants.inc();
        self.wait.observe(waited.as_secs_f64());
        self.lateness.observe(late.as_secs_f64());
    }

    pub(crate) fn fetched(&self, outcome: &Outcome) {
        let labels = [("outcome", outcome.as_str())];
        self.fetches.get_or_create(&labels).inc();
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&[("reason", reason)]).inc();
    }

    pub(crate) fn reported(&self, report: Report) {
        let labels = [("report", report.as_str())];
        self.reports.get_or_create(&labels).inc();
    }

    pub(crate) fn lease_request(&self, operation: &'static str, done: bool) {
        let outcome = if done { "success" } else { "failure" };
        let labels = [("operation", operation), ("outcome", outcome)];
        self.lease.get_or_create(&labels).inc();
    }

    /// Returns the number of requests that wait on this pod.
    pub(crate) fn held(&self) -> i64 {
        self.held_requests.get()
    }

    pub(crate) fn forwarded(&self, outcome: &'static str) {
        self.forwarded.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Returns all metrics in the OpenMetrics text format.
    pub fn page(&self, snapshot: &Snapshot) -> Result<String, fmt::Error> {
        let mut page = String::new();
        encode_registry(&mut page, &self.registry)?;
        encode_registry(&mut page, &self.gauges(snapshot))?;
        encode_eof(&mut page)?;
        Ok(page)
    }

    fn gauges(&self, snapshot: &Snapshot) -> Registry {
        let mut registry = Registry::with_prefix("gateway_queue");
        let view = snapshot.leader_view.as_ref();
        let limits = view.and_then(|view| view.limits.as_ref());
        let mut gauge = |name: &str, help: &str, value: Option<u64>| {
            if let Some(value) = value {
                let gauge = Gauge::<i64>::default();
                gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
                registry.register(name, help, gauge);
            }
        };
        gauge(
            "leader_reachable",
            "1 if the leader responds to this pod, 0 if not; absent while no other pod is the leader",
            match snapshot.leader_health {
                Health::NoLeader => None,
                Health::Reachable => Some(1),
                Health::Unreachable { .. } => Some(0),
            },
        );
        gauge(
            "crash_looping_shards",
            "Shards that are held because they were granted too often, or were a moment ago",
            view.and_then(|view| view.crash_looping_count.try_into().ok()),
        );
        gauge(
            "max_concurrency",
            "Number of buckets; absent while unknown",
            view.and_then(|view| view.max_concurrency).map(u64::from),
        );
        gauge(
            "recommended_shards",
            "Number of shards that Discord recommends",
            limits.map(|limits| limits.shards.into()),
        );
        gauge(
            "session_starts_limit",
            "Session starts per window",
            limits.map(|limits| limits.total),
        );
        gauge(
            "session_starts_remaining",
            "Session starts left by the queue's count, including the reserve; absent while unknown",
            view.and_then(|view| view.remaining),
        );
        gauge(
            "session_starts_reserve",
            "Session starts that are never granted",
            Some(self.reserve),
        );
        gauge(
            "session_starts_reset_timestamp_seconds",
            "End of the open window, in seconds since the Unix epoch; absent if none is open",
            view.and_then(|view| view.reset_time)
                .and_then(|time| time.as_second().try_into().ok()),
        );
        let waiting = Family::<[(&str, u32); 1], Gauge>::default();
        for lane in &snapshot.lanes {
            let waiters = i64::try_from(lane.waiting).unwrap_or(i64::MAX);
            waiting
                .get_or_create(&[("bucket", lane.bucket)])
                .set(waiters);
        }
        registry.register("waiting", "Waiters, by bucket", waiting);
        if let Some(view) = view {
            let is_active = |reason| (BlockedBy::as_str(reason), view.blocked_by == Some(reason));
            let blocked = one_of("reason", BlockedBy::ALL.map(is_active));
            let help = "1 for the reason why nothing is granted";
            registry.register("blocked", help, blocked);
        }
        let is_active = |role| (Role::as_str(role), snapshot.role == role);
        let roles = one_of("role", Role::ALL.map(is_active));
        registry.register("role", "1 for the role of this pod", roles);
        registry
    }
}

/// Returns a gauge for each value of a label, 1 if the value is active.
fn one_of<const N: usize>(
    label: &'static str,
    values: [(&'static str, bool); N],
) -> Family<Labels<1>, Gauge> {
    let family = Family::<Labels<1>, Gauge>::default();
    for (value, active) in values {
        family.get_or_create(&[(label, value)]).set(active.into());
    }
    family
}
