//! Whether this pod reaches the leader that it follows.
//!
//! A leader that renews its Lease and does not answer this pod (a NetworkPolicy, a service
//! mesh) is a fault that no other pod observes. Clients that wait here would wait forever, so
//! this pod becomes unready and the Service sends them to the leader. While the Lease is not
//! renewed, no pod is better than another, and all stay ready: the Service must not become
//! empty.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::leadership::election::MAX_DURATION;
use crate::leadership::state::Leader;
use crate::lease_state::Unreachable;
use crate::time::Moment;

/// The maximum time between an observed renewal and a report. Each change of the Lease makes its
/// candidates start their wait again, which must not delay them after the leader is gone.
const REPORT_WITHIN: Duration = Duration::from_secs(1);

/// The number of failed probes after which the leader is unreachable. One lost packet, or a
/// leader that resigns, is not a fault.
const MIN_FAILURES: u32 = 3;

/// The settings of the probes.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// A leader that has not answered anything for this long is probed.
    pub probe_every: Duration,
    /// The time between a failed probe and the next.
    pub retry_every: Duration,
    /// The timeout of a probe. A leader answers immediately.
    pub patience: Duration,
    /// A leader that has not answered for this long cannot be reached.
    pub unreachable_after: Duration,
    /// A leader without an observed renewal for this long may be gone, unless its Lease names a
    /// longer duration.
    pub renewed_within: Duration,
}

impl Config {
    /// Returns the settings for a Lease that is renewed this often.
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

/// A renewal of the Lease by another pod, as this pod observed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// The UID of the Lease.
    pub uid: String,
    /// The last resource version with this renewal: a report of another pod changes it.
    pub version: String,
    /// The holder of the Lease: the name of the leader in its term.
    pub holder: String,
    /// When this pod observed it; if it missed the change, the last observation before it.
    pub at: Moment,
    /// The duration that the Lease names: during a rollout the leader may have other settings
    /// than this pod.
    pub duration: Option<Duration>,
    /// The report of this pod on the Lease.
    pub report: Option<String>,
}

/// Whether the leader can be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// This pod knows of no leader in another pod.
    #[default]
    NoLeader,
    /// The leader answers, or has not been silent for long.
    Reachable,
    /// The leader does not answer.
    Unreachable {
        /// The leader that does not answer.
        leader: Leader,
        /// When it last answered.
        since: Moment,
        /// Whether it renews its Lease.
        lives: bool,
    },
}

impl Health {
    /// Returns whether the Service may send clients to this pod.
    pub fn is_ready(&self) -> bool {
        !matches!(self, Self::Unreachable { lives: true, .. })
    }

    /// Returns the report that must be on the Lease; none if there must be none.
    pub fn report(&self, now: Moment, wall: Timestamp) -> Option<Unreachable> {
        let Self::Unreachable { leader, since, .. } = self else {
            return None;
        };
        let silent = SignedDuration::try_from(now.since(*since)).unwrap_or_default();
        Some(Unreachable {
            leader: leader.holder.clone(),
            address: leader.address,
            // The last answer was not before the machine booted.
            since: wall.checked_sub(silent).unwrap_or(wall),
        })
    }
}

/// When this pod writes its report to the Lease or removes it: once for each change, and only
/// right after a renewal.
#[derive(Debug, Default)]
pub struct Reports {
    /// The holder that the last write was about, and whether it wrote or removed a report.
    written: Option<(String, bool)>,
}

impl Reports {
    /// Returns the report to write now, or `Some(None)` to remove it. Returns none if the Lease is
    /// already correct, or was written for this change.
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

    /// Records that the report was written to the Lease, or removed.
    pub fn written(&mut self, holder: &str, is_unreachable: bool) {
        self.written = Some((holder.to_owned(), is_unreachable));
    }
}

/// Whether the current leader in another pod can be reached.
#[derive(Clone, Debug)]
pub struct LeaderHealth {
    config: Config,
    following: Option<Following>,
    /// The holder that renewed the Lease last, and until when it counts as alive.
    renewed: Option<(String, Moment)>,
}

#[derive(Clone, Debug)]
struct Following {
    leader: Leader,
    /// When it last answered, or became the leader.
    answered_at: Moment,
    /// Failed probes since then.
    failures: u32,
    probe_at: Moment,
    /// Whether it is unreachable until it answers.
    is_unreachable: bool,
}

impl LeaderHealth {
    /// Returns the state before a leader is known.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            following: None,
            renewed: None,
        }
    }

    /// Sets the leader in another pod; none if this pod is the leader, or no pod is. Returns
    /// whether it has changed.
    pub fn follow(&mut self, leader: Option<&Leader>, now: Moment) -> bool {
        let followed = self.following.as_ref().map(|following| &following.leader);
        if followed == leader {
            return false;
        }
        self.following = leader.map(|leader| Following {
            leader: leader.clone(),
            answered_at: now,
            failures: 0,
            // Its port may not accept connections yet.
            probe_at: now + self.config.retry_every,
            is_unreachable: false,
        });
        true
    }

    /// Takes a renewal of the Lease.
    pub fn renewed(&mut self, renewal: &Renewal) {
        let named = renewal.duration.unwrap_or_default().min(MAX_DURATION);
        let until = renewal.at + named.max(self.config.renewed_within);
        self.renewed = Some((renewal.holder.clone(), until));
    }

    /// Records that the leader answered a forwarded request or a probe.
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

    /// Records that the leader did not answer a probe that was sent at `sent`.
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

    /// Returns the leader to probe, and when.
    pub fn probe(&self) -> Option<(&Leader, Moment)> {
        let following = self.following.as_ref()?;
        Some((&following.leader, following.probe_at))
    }

    /// Returns when [`LeaderHealth::health`] changes if nothing happens before.
    pub fn expires_at(&self, now: Moment) -> Option<Moment> {
        let (_, until) = self.renewed.as_ref()?;
        let lives = matches!(self.health(now), Health::Unreachable { lives: true, .. });
        lives.then_some(*until)
    }

    /// Returns whether the leader can be reached.
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
