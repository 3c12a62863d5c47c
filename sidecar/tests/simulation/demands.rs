//! The rules about all pods, checked in true time.

use std::time::Duration;

use gateway_queue::metrics::Metrics;
use gateway_queue_core::leadership::election::MAX_DURATION;
use gateway_queue_core::lease_state::HandoverRecord;
use gateway_queue_core::queue::snapshot::Snapshot;
use gateway_queue_core::queue::state_json;
use gateway_queue_core::testing::judge::Written;
use gateway_queue_core::testing::{about, leader_fields};
use gateway_queue_core::time::Moment;
use jiff::Timestamp;

use crate::clock::{SECOND, True};
use crate::rules::{Rule, Violation};
use crate::world::{Event, Rare, World};

/// The longest time until a leader without session starts asks Discord again.
const REFRESH: True = 80 * SECOND;

/// The gauges that only a leader has.
const LEADER_GAUGES: [&str; 5] = [
    "gateway_queue_blocked{",
    "gateway_queue_crash_looping_shards ",
    "gateway_queue_max_concurrency ",
    "gateway_queue_recommended_shards ",
    "gateway_queue_session_starts_",
];
/// A setting, which every pod has.
const RESERVE: &str = "gateway_queue_session_starts_reserve ";

impl World {
    pub(crate) fn violate(&mut self, rule: Rule, what: String) {
        let at = self.now;
        self.violation.get_or_insert(Violation { rule, at, what });
    }

    /// Checks a pod after each of its steps. If it has a new right to grant, no other pod may
    /// grant, or export in any format what only a leader knows.
    pub(crate) fn check_right(&mut self, pod: usize) {
        self.demand_no_stale_exports(pod);
        let right = self.pods[pod].right();
        if std::mem::replace(&mut self.pods[pod].checked, right) == right {
            return;
        }
        if self.pods[pod].may_grant(self.pods[pod].clock.at(self.now)) {
            self.demand_one_leader(pod);
            for other in 0..self.pods.len() {
                if self.pods[other].has_led {
                    self.demand_no_stale_text(other);
                }
            }
        }
    }

    /// Returns what a pod exports now; none if it does not run, or if it may grant.
    fn exports_without_right(&mut self, pod: usize) -> Option<Snapshot> {
        let pod = &mut self.pods[pod];
        let now = pod.clock.at(self.now);
        let runs = !pod.gone && pod.inbox.is_none();
        let snapshot = runs.then(|| pod.snapshot(now));
        snapshot.filter(|_| !pod.may_grant(now))
    }

    fn demand_no_stale_exports(&mut self, pod: usize) {
        let exports = self.exports_without_right(pod);
        if let Some(view) = exports.and_then(|snapshot| snapshot.leader_view) {
            self.violate(Rule::Exports, format!("pod {pod} exports {view:?}"));
        }
    }

    fn demand_no_stale_text(&mut self, pod: usize) {
        if let Some(snapshot) = self.exports_without_right(pod) {
            let exported = exports_of_a_leader(&snapshot);
            if !exported.is_empty() {
                self.violate(Rule::Exports, format!("pod {pod} exports {exported:?}"));
            }
        }
    }

    pub(crate) fn demand_one_leader(&mut self, pod: usize) {
        let now = self.now;
        let mut others = self.pods.iter().filter(|other| other.number != pod);
        if let Some(other) = others.find(|other| other.may_grant(other.clock.at(now))) {
            let other = other.number;
            let what = format!("pod {pod} may grant or does, and so may pod {other}");
            self.violate(Rule::TwoLeaders, what);
        }
    }

    /// No leader grants a shard more often than it may, by its own clock.
    pub(crate) fn demand_few_grants(&mut self, pod: usize, shard: u32, written: &Written) {
        let (term, shown) = (written.term, written.shown);
        self.by_shard.push((term, shard, shown));
        let limit = self.pods[pod].settings.shard_limit;
        let counts = |grant: &&(u64, u32, Moment)| {
            (grant.0, grant.1) == (term, shard) && grant.2 + limit.window > shown
        };
        let count = self.by_shard.iter().filter(counts).count();
        if limit.burst > 0 && count > limit.burst {
            let what = format!("pod {pod} has granted shard {shard} {count} times");
            self.violate(Rule::Burst, what);
        }
        if self.pods[pod].holds_a_shard() {
            self.saw(Rare::GrantWhileAnotherIsHeld);
        }
    }

    /// Returns the time after the faults within which a pod must have granted.
    pub(crate) fn deadline(&self) -> True {
        let running = || self.pods.iter().filter(|pod| !pod.gone);
        let mut longest = running().map(|pod| pod.settings.duration).max();
        let lease = self.server.sent().and_then(|sent| sent.answer.clone());
        if self.seen.contains_key(&Rare::Garbage) {
            longest = Some(MAX_DURATION);
        } else if let Some(lease) = lease.map(|record| record.lease) {
            longest = longest.max(lease.duration);
            let believed = match &lease.handover {
                Some(HandoverRecord::Released(handover)) => handover.lease == lease.uid,
                Some(HandoverRecord::NeverLed) => !self.seen.contains_key(&Rare::LeaseRecreated),
                None => false,
            };
            if lease.holder.is_none() && !believed {
                longest = Some(MAX_DURATION);
            }
        }
        let spacing = running().map(|pod| pod.settings.spacing).max();
        let spacing = spacing.unwrap_or_default().max(self.settings.spacing);
        let both = longest.unwrap_or(MAX_DURATION).max(self.settings.duration) + spacing;
        (both.mul_f64(1.05) + Duration::from_secs(2)).as_nanos() as True
    }

    pub(crate) fn demand_a_grant(&mut self, excused: bool) {
        if self.granted_at.is_some() {
            return;
        }
        let has_none = self.pods.iter().any(|pod| !pod.gone && pod.holds());
        if has_none && !excused {
            self.saw(Rare::WithoutSessionStarts);
            return self.after(REFRESH, Event::Deadline { excused: true });
        }
        let since = self.calm_since.unwrap_or_default();
        let after = (self.now - since) as f64 / SECOND as f64;
        self.violate(
            Rule::Silence,
            format!("no grant within {after:.3} s of calm"),
        );
    }
}

/// Returns what this pod exports, as JSON and as metrics, that only a leader knows.
fn exports_of_a_leader(snapshot: &Snapshot) -> Vec<String> {
    let json = state_json::json(snapshot, &about(), Timestamp::UNIX_EPOCH).unwrap();
    let fields = leader_fields(&serde_json::from_str(&json).unwrap());
    let metrics = Metrics::new(0).page(snapshot).unwrap();
    let is_leaders = |line: &&str| {
        LEADER_GAUGES.iter().any(|gauge| line.starts_with(gauge)) && !line.starts_with(RESERVE)
    };
    let gauges = metrics.lines().filter(is_leaders);
    fields
        .into_iter()
        .chain(gauges)
        .map(str::to_owned)
        .collect()
}
