//! What a candidate learns from the responses of the API server.

use std::time::Duration;

use crate::leadership::candidate::Candidate;
use crate::leadership::candidate::event::Event;
use crate::leadership::election::{Failure, Request};
use crate::leadership::leader_health::Renewal;
use crate::leadership::lease_object::LeaseObject;
use crate::leadership::state::pod_of;
use crate::lease_state::Unreachable;
use crate::time::Moment;

/// A candidate that resigned, and for this long received no other response than that the Lease
/// does not exist or is forbidden, has no successor. During a shorter time, the operator may be
/// recreating the Lease, or the API server may be starting.
const GONE_AFTER: Duration = Duration::from_secs(5);

impl Candidate {
    pub(super) fn conclude(
        &mut self,
        request: Request,
        answer: Result<LeaseObject, Failure>,
        now: Moment,
    ) {
        self.events.push(Event::Asked {
            request,
            succeeded: answer.is_ok(),
        });
        self.check_gone(&answer, now);
        let error = match &answer {
            Ok(_) | Err(Failure::Conflict) => None,
            Err(failure) => Some(failure.to_string()),
        };
        let answer = answer.map(|lease_object| {
            let lease = lease_object.lease.clone();
            // A renewal that a read finds may be as old as the last observation.
            self.observe(lease_object, self.last_at, now);
            if !self.ready {
                self.ready = true;
                self.events.push(Event::Ready);
            }
            lease
        });
        match (error, self.failing) {
            (Some(error), None) => {
                self.events.push(Event::Unreachable { request, error });
                self.failing = Some(request);
            }
            (None, Some(failing))
                if failing == request
                    // A pod that is no longer the leader renews nothing.
                    || (failing == Request::Renew && self.election.term().is_none()) =>
            {
                self.events.push(Event::Reachable(request));
                self.failing = None;
            }
            _ => {}
        }
        self.election.answered(answer, now);
        self.update(now);
    }

    fn check_gone(&mut self, answer: &Result<LeaseObject, Failure>, now: Moment) {
        let is_gone = matches!(answer, Err(Failure::Missing | Failure::Denied(_)));
        if !is_gone || !self.election.has_resigned() {
            self.gone_since = None;
            return;
        }
        let since = *self.gone_since.get_or_insert(now);
        if now.since(since) >= GONE_AFTER && !self.gone {
            self.gone = true;
            self.events.push(Event::Gone);
        }
    }

    /// Takes the Lease as it is at `now`. A renewal in it was made at `renewed_at` or later.
    pub(super) fn observe(&mut self, lease_object: LeaseObject, renewed_at: Moment, now: Moment) {
        let before = self
            .last
            .as_ref()
            .filter(|_| self.election.term().is_none());
        let renewed_at = before.and_then(|before| {
            if lease_object.is_renewal_after(before) {
                return Some(renewed_at);
            }
            // Another write to the same renewal, such as the report of another pod.
            let renewal = self.renewal.as_ref()?;
            let is_last = renewal.version == before.lease.version;
            let is_same = renewal.uid == lease_object.lease.uid
                && lease_object.lease.holder.as_ref() == Some(&renewal.holder);
            (is_last && is_same).then_some(renewal.at)
        });
        if let Some(at) = renewed_at {
            let key = Unreachable::key(pod_of(&self.config.identity).unwrap_or_default());
            self.renewal = Some(Renewal {
                uid: lease_object.lease.uid.clone(),
                version: lease_object.lease.version.clone(),
                holder: lease_object.lease.holder.clone().unwrap_or_default(),
                at,
                duration: lease_object.lease.duration,
                report: lease_object.annotations.get(&key).cloned(),
            });
        }
        self.last = Some(lease_object);
        self.last_at = now;
    }
}
