//! Whether this pod reaches the leader that it follows.
//!
//! A leader that renews its Lease and does not answer this pod (a NetworkPolicy, a service
//! mesh) is a fault that no other pod sees. Clients that wait here would wait for ever, so
//! this pod turns unready and the Service sends them to the leader. While the Lease is not
//! renewed, no pod is better than another, and all stay ready: the Service must not become
//! empty.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::leadership::election::MAX_DURATION;
use crate::leadership::state::Leader;
use crate::lease_state::Unreachable;
use crate::time::Moment;

/// A report is written only this soon after a renewal was seen: each change of the Lease
/// makes its candidates wait anew, and must not delay them when the leader is gone.
const REPORT_WITHIN: Duration = Duration::from_secs(1);

/// A single lost packet, or a leader that gives way, is not a fault.
const MIN_FAILURES: u32 = 3;

/// How the leader is watched.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// A leader that has not answered anything for this long is probed.
    pub probe_every: Duration,
    /// How soon a probe that failed is repeated.
    pub retry_every: Duration,
    /// How long the answer to a probe may take. A leader answers at once.
    pub patience: Duration,
    /// A leader that has not answered for this long cannot be reached.
    pub unreachable_after: Duration,
    /// A leader whose renewals were not seen for this long may be gone, unless its Lease names
    /// a longer duration.
    pub renewed_within: Duration,
}

impl Config {
    /// The periods for a Lease that is renewed this often.
    pub fn new(renew_every: Duration) -> Self {
        Self {
            probe_every: Duration::from_secs(10),
            retry_every: Duration::from_secs(5),
            patience: Duration::from_secs(3),
            unreachable_after: Duration::from_secs(30),
            // One renewal may fail.
            renewed_within: renew_every.saturating_mul(2),
        }
    }
}

/// A renewal of the Lease by another pod, as this pod saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// The Lease.
    pub uid: String,
    /// Its last version with this renewal: a report of another pod changes it.
    pub version: String,
    /// The holder, by its name in its term.
    pub holder: String,
    /// When this pod saw it; if it missed the change, the last moment before it.
    pub at: Moment,
    /// The duration that the Lease names: during a rollout the leader may have other settings
    /// than this pod.
    pub duration: Option<Duration>,
    /// What this pod has reported about the leader, as it is on the Lease.
    pub report: Option<String>,
}

/// Whether the leader can be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// No other pod leads, as far as this pod knows.
    #[default]
    NoLeader,
    /// The leader answers, or has not been silent for long.
    Reachable,
    /// The leader does not answer.
    Unreachable {
        /// The leader.
        leader: Leader,
        /// When it last answered.
        since: Moment,
        /// Whether it renews its Lease.
        lives: bool,
    },
}

impl Health {
    /// Whether clients may be sent to this pod.
    pub fn is_ready(&self) -> bool {
        !matches!(self, Self::Unreachable { lives: true, .. })
    }

    /// The report that has to be on the Lease; none when there must not be one.
    pub fn report(&self, now: Moment, wall: Timestamp) -> Option<Unreachable> {
        let Self::Unreachable { leader, since, .. } = self else {
            return None;
        };
        let silent = SignedDuration::try_from(now.since(*since)).unwrap_or_default();
        Some(Unreachable {
            leader: leader.holder.clone(),
            address: leader.address,
            // It was not before the machine was started.
            since: wall.checked_sub(silent).unwrap_or(wall),
        })
    }
}

/// Decides when this pod writes its report to the Lease, or removes it: once for each
/// change, and only right after a renewal.
#[derive(Debug, Default)]
pub struct Reports {
    /// The holder that a report was written or removed for last, and which.
    written: Option<(String, bool)>,
}

impl Reports {
    /// Returns the report to write now, or to remove if it is none. Returns nothing when
    /// the Lease has it right already, or was written to for this.
    pub fn due(
        &self,
        renewal: &Renewal,
        health: &Health,
        now: Moment,
        wall: Timestamp,
    ) -> Option<Option<Unreachable>> {
        let about_holder = |report: &Unreachable| report.leader == renewal.holder;
        let report = health.report(now, wall).filter(about_holder);
        let on_lease = renewal.report.as_deref().and_then(Unreachable::read);
        let is_right = on_lease.filter(about_holder).is_some() == report.is_some();
        let written = self.written.as_ref();
        let is_written = written
            .is_some_and(|(holder, is)| *holder == renewal.holder && *is == report.is_some());
        let is_late = now.since(renewal.at) > REPORT_WITHIN;
        (!is_right && !is_written && !is_late).then_some(report)
    }

    /// The report was written to the Lease, or removed.
    pub fn written(&mut self, holder: &str, is_unreachable: bool) {
        self.written = Some((holder.to_owned(), is_unreachable));
    }
}

/// Watches one leader after another.
#[derive(Clone, Debug)]
pub struct LeaderHealth {
    config: Config,
    following: Option<Following>,
    /// The holder that renewed the Lease last, and until when it counts as living.
    renewed: Option<(String, Moment)>,
}

#[derive(Clone, Debug)]
struct Following {
    leader: Leader,
    /// When it answered last, or was followed first.
    answered_at: Moment,
    /// Failed probes since then.
    failures: u32,
    probe_at: Moment,
    /// Until it answers.
    is_unreachable: bool,
}

impl LeaderHealth {
    /// No leader is known yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            following: None,
            renewed: None,
        }
    }

    /// Follows this leader from now on; none when this pod leads, or nobody does. Returns
    /// whether that is new.
    pub fn follow(&mut self, leader: Option<&Leader>, now: Moment) -> bool {
        let followed = self.following.as_ref().map(|following| &following.leader);
        if followed == leader {
            return false;
        }
        self.following = leader.map(|leader| Following {
            leader: leader.clone(),
            answered_at: now,
            failures: 0,
            // It may take its port a moment.
            probe_at: now + self.config.retry_every,
            is_unreachable: false,
        });
        true
    }

    /// The Lease was renewed.
    pub fn renewed(&mut self, renewal: &Renewal) {
        let named = renewal.duration.unwrap_or_default().min(MAX_DURATION);
        let until = renewal.at + named.max(self.config.renewed_within);
        self.renewed = Some((renewal.holder.clone(), until));
    }

    /// The leader answered a forwarded request or a probe.
    pub fn answered(&mut self, at: Moment) {
        if let Some(following) = &mut self.following
            && at > following.answered_at
        {
            following.answered_at = at;
            following.failures = 0;
            following.probe_at = at + self.config.probe_every;
            following.is_unreachable = false;
        }
    }

    /// The leader did not answer a probe that was sent at `sent`.
    pub fn failed(&mut self, sent: Moment, now: Moment) {
        let Some(following) = &mut self.following else {
            return;
        };
        if following.answered_at > sent {
            // A forwarded request was answered meanwhile.
            return;
        }
        following.failures = following.failures.saturating_add(1);
        following.probe_at = sent + self.config.retry_every;
        following.is_unreachable = following.failures >= MIN_FAILURES
            && now.since(following.answered_at) >= self.config.unreachable_after;
    }

    /// The leader to probe, and when.
    pub fn probe(&self) -> Option<(&Leader, Moment)> {
        let following = self.following.as_ref()?;
        Some((&following.leader, following.probe_at))
    }

    /// When [`LeaderHealth::health`] changes if nothing happens before.
    pub fn expires_at(&self, now: Moment) -> Option<Moment> {
        let (_, until) = self.renewed.as_ref()?;
        let lives = matches!(self.health(now), Health::Unreachable { lives: true, .. });
        lives.then_some(*until)
    }

    /// Whether the leader can be reached.
    pub fn health(&self, now: Moment) -> Health {
        let Some(following) = &self.following else {
            return Health::NoLeader;
        };
        if !following.is_unreachable {
            return Health::Reachable;
        }
        let leader = &following.leader;
        let lives = self
            .renewed
            .as_ref()
            .is_some_and(|(holder, until)| *holder == leader.holder && now < *until);
        Health::Unreachable {
            leader: leader.clone(),
            since: following.answered_at,
            lives,
        }
    }
}

#[cfg(test)]
mod tests;
