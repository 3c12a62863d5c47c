//! What is counted, and how it is told to Prometheus.
//!
//! Counters and histograms are kept as things happen. Gauges are made from a
//! snapshot of the queue when somebody asks, so that they cost nothing in
//! between and always agree with /state. A gauge that only a leader knows is
//! absent on every other pod, so that an alert never reads a stale one.

use std::fmt;
use std::time::Duration;

use gateway_queue_core::leadership::leader_health::Health;
use gateway_queue_core::leadership::state::Role;
use gateway_queue_core::lease_state::BlockedBy;
use gateway_queue_core::pacing::fetch_schedule::Outcome;
use gateway_queue_core::queue::snapshot::Snapshot;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Seconds that a shard may wait: from nothing to a day of a big bot.
const WAITS: [f64; 10] = [
    0.01, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0,
];

/// Seconds that a grant may be late: the promise is 2 ms.
const LATENESS: [f64; 8] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FetchLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LeaseLabels {
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RoleLabels {
    role: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BucketLabels {
    bucket: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// See the module.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reserve: u64,
    grants: Counter,
    wait: Histogram,
    lateness: Histogram,
    fetches: Family<FetchLabels, Counter>,
    refused: Family<ReasonLabels, Counter>,
    lease: Family<LeaseLabels, Counter>,
    forwarded: Family<FetchLabels, Counter>,
    pub(crate) held_requests: Gauge,
    pub(crate) cancelled: Counter,
    pub(crate) reservations_used: Counter,
    pub(crate) invalid_shards: Counter,
    pub(crate) invalid_max_concurrency: Counter,
}

impl Metrics {
    /// All at zero. `reserve` is the setting.
    pub fn new(reserve: u64) -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("gateway_queue"),
            reserve,
            grants: Counter::default(),
            wait: Histogram::new(WAITS),
            lateness: Histogram::new(LATENESS),
            fetches: Family::default(),
            refused: Family::default(),
            lease: Family::default(),
            forwarded: Family::default(),
            held_requests: Gauge::default(),
            cancelled: Counter::default(),
            reservations_used: Counter::default(),
            invalid_shards: Counter::default(),
            invalid_max_concurrency: Counter::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("grants", "Turns that were granted", metrics.grants.clone());
        registry.register(
            "cancelled_requests",
            "Waiters that went away before their turn",
            metrics.cancelled.clone(),
        );
        registry.register(
            "reservations_used",
            "Waiters that came back to the place they had left",
            metrics.reservations_used.clone(),
        );
        registry.register(
            "invalid_shards",
            "Requests that named no readable shard, taken as shard 0",
            metrics.invalid_shards.clone(),
        );
        registry.register(
            "refusals",
            "Answers other than the grant, to clients that opted in to them by wait=",
            metrics.refused.clone(),
        );
        registry.register(
            "lease_requests",
            "Requests about the Lease, by what they were for and what came of them",
            metrics.lease.clone(),
        );
        registry.register(
            "forwarded_requests",
            "Questions to a leader elsewhere, by what came of them",
            metrics.forwarded.clone(),
        );
        registry.register(
            "held_requests",
            "Clients that this process holds, whoever grants them",
            metrics.held_requests.clone(),
        );
        registry.register(
            "invalid_max_concurrency",
            "Answers of Discord with a max_concurrency that cannot be",
            metrics.invalid_max_concurrency.clone(),
        );
        registry.register(
            "wait_seconds",
            "From a request to its grant",
            metrics.wait.clone(),
        );
        registry.register(
            "grant_lateness_seconds",
            "From the earliest instant at which a grant was allowed to the grant",
            metrics.lateness.clone(),
        );
        registry.register(
            "discord_requests",
            "Fetches of the session starts, by what came of them",
            metrics.fetches.clone(),
        );
        metrics
    }

    pub(crate) fn granted(&self, waited: Duration, late: Duration) {
        self.grants.inc();
        self.wait.observe(waited.as_secs_f64());
        self.lateness.observe(late.as_secs_f64());
    }

    pub(crate) fn fetched(&self, outcome: &Outcome) {
        let outcome = outcome.as_str();
        self.fetches.get_or_create(&FetchLabels { outcome }).inc();
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabels { reason }).inc();
    }

    pub(crate) fn lease_request(&self, operation: &'static str, done: bool) {
        let outcome = if done { "success" } else { "failure" };
        let labels = LeaseLabels { operation, outcome };
        self.lease.get_or_create(&labels).inc();
    }

    /// How many clients this process holds.
    pub(crate) fn held(&self) -> i64 {
        self.held_requests.get()
    }

    pub(crate) fn forwarded(&self, outcome: &'static str) {
        self.forwarded.get_or_create(&FetchLabels { outcome }).inc();
    }

    /// The page for Prometheus, in the OpenMetrics text format.
    ///
    /// # Errors
    ///
    /// When a metric cannot be written as text; none of ours has a reason to.
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
        let limits = view.and_then(|view| view.limits);
        let mut gauge = |name: &str, help: &str, value: Option<u64>| {
            if let Some(value) = value {
                let gauge = Gauge::<i64>::default();
                gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
                registry.register(name, help, gauge);
            }
        };
        gauge(
            "leader_reachable",
            "1 if the leader answers this pod, 0 if not; absent while no other pod leads",
            match snapshot.leader_health {
                Health::NoLeader => None,
                Health::Reachable => Some(1),
                Health::Unreachable { .. } => Some(0),
            },
        );
        gauge(
            "max_concurrency",
            "Buckets; absent while unknown",
            view.and_then(|view| view.max_concurrency).map(u64::from),
        );
        gauge(
            "recommended_shards",
            "Shards that Discord recommends",
            limits.map(|limits| limits.shards.into()),
        );
        gauge(
            "session_starts_limit",
            "Session starts of a whole window",
            limits.map(|limits| limits.total),
        );
        gauge(
            "session_starts_remaining",
            "Session starts that are left by our count, the reserve included; absent while unknown",
            view.and_then(|view| view.remaining),
        );
        gauge(
            "session_starts_reserve",
            "Session starts that are left untouched",
            Some(self.reserve),
        );
        gauge(
            "session_starts_reset_timestamp_seconds",
            "When the open window ends; absent when none is open",
            view.and_then(|view| view.reset_time)
                .and_then(|time| time.as_second().try_into().ok()),
        );
        let waiting = Family::<BucketLabels, Gauge>::default();
        for lane in &snapshot.lanes {
            let labels = BucketLabels {
                bucket: lane.bucket,
            };
            let waiters = i64::try_from(lane.waiting).unwrap_or(i64::MAX);
            waiting.get_or_create(&labels).set(waiters);
        }
        registry.register("waiting", "Waiters in each bucket", waiting);
        if let Some(view) = view {
            let holds = Family::<ReasonLabels, Gauge>::default();
            for blocked_by in BlockedBy::ALL {
                let labels = ReasonLabels {
                    reason: blocked_by.as_str(),
                };
                let holding = view.blocked_by == Some(blocked_by);
                holds.get_or_create(&labels).set(holding.into());
            }
            registry.register("blocked", "1 for the reason why nothing is granted", holds);
        }
        let roles = Family::<RoleLabels, Gauge>::default();
        for role in Role::ALL {
            let labels = RoleLabels {
                role: role.as_str(),
            };
            let plays = snapshot.role == role;
            roles.get_or_create(&labels).set(plays.into());
        }
        registry.register("role", "1 for what this process does with waiters", roles);
        registry
    }
}
