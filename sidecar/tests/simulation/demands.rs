//! What is demanded of all together, in true time.

use std::time::Duration;

use gateway_queue::election::LONGEST;
use gateway_queue_logbook::Release;

use crate::clock::{SECOND, True};
use crate::judge::{Rule, Violation};
use crate::world::{Event, World};

/// How long a leader without session starts may take to ask Discord again.
const REFRESH: True = 80 * SECOND;

impl World {
    pub(crate) fn violate(&mut self, rule: Rule, what: String) {
        let at = self.now;
        self.violation.get_or_insert(Violation { rule, at, what });
    }

    /// After each step of a pod: if it has a new right, nobody else has any.
    pub(crate) fn check_right(&mut self, pod: usize) {
        let right = self.pods[pod].right();
        if std::mem::replace(&mut self.pods[pod].checked, right) == right {
            return;
        }
        if self.pods[pod].may_grant(self.pods[pod].clock.at(self.now)) {
            self.demand_one_leader(pod);
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

    /// How long after the faults somebody must have granted.
    pub(crate) fn deadline(&self) -> True {
        let running = || self.pods.iter().filter(|pod| !pod.gone);
        let mut longest = running().map(|pod| pod.settings.duration).max();
        if let Some(lease) = &self.server.lease {
            longest = longest.max(lease.duration);
            let believed = match &lease.release {
                Some(Release::Left(left)) => left.lease == lease.uid,
                Some(Release::NeverLed) => self.seen.made_again == 0,
                None => false,
            };
            if lease.holder.is_none() && !believed {
                longest = Some(LONGEST);
            }
        }
        let spacing = running().map(|pod| pod.settings.spacing).max();
        let spacing = spacing.unwrap_or_default().max(self.settings.spacing);
        let both = longest.unwrap_or(LONGEST).max(self.settings.duration) + spacing;
        (both.mul_f64(1.05) + Duration::from_secs(2)).as_nanos() as True
    }

    pub(crate) fn demand_a_grant(&mut self, excused: bool) {
        if self.granted_at.is_some() {
            return;
        }
        let has_none = self.pods.iter().any(|pod| !pod.gone && pod.holds());
        if has_none && !excused {
            self.seen.without_session_starts += 1;
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
