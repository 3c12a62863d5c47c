//! The state of this process in the election.

use std::net::SocketAddr;

use crate::leadership::term::{ReceivedHandover, Term};
use crate::lease_state::last_known::LastKnown;
use crate::names::named;
use crate::time::Moment;

/// The last state that the election published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeadershipState {
    /// The term in which this process is the leader, if it is. Its right to grant may have
    /// expired.
    pub term: Option<Term>,
    /// The session starts that the previous leader published.
    pub known: Option<LastKnown>,
    /// The leader in another pod, if there is one with an address.
    pub leader: Option<Leader>,
}

/// A leader in another pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The holder of the Lease: the name of this leader in its term.
    pub holder: String,
    /// The address for forwarded requests.
    pub address: SocketAddr,
}

impl Leader {
    /// Returns the name of the pod, with which the holder begins.
    pub fn pod(&self) -> Option<&str> {
        pod_of(&self.holder)
    }
}

/// Returns the name of the pod in an identity or a holder, which begins with `POD_`.
pub(crate) fn pod_of(holder: &str) -> Option<&str> {
    holder.rsplit_once('_').map(|(pod, _)| pod)
}

impl LeadershipState {
    /// The state before the Lease is read.
    pub const UNKNOWN: Self = Self {
        term: None,
        known: None,
        leader: None,
    };

    /// Returns the state without an election: this process is the leader as long as it runs, and
    /// starts from this handover.
    pub fn alone(handover: ReceivedHandover) -> Self {
        Self {
            term: Some(Term {
                number: 1,
                holder: String::new(),
                until: Moment::from_nanos(u64::MAX),
                handover,
            }),
            known: None,
            leader: None,
        }
    }

    /// Returns whether this process is the leader, so that requests wait in its own queue.
    pub fn leads(&self) -> bool {
        self.term.is_some()
    }

    /// Returns the role at `now`.
    pub fn role(&self, now: Moment) -> Role {
        match (&self.term, &self.leader) {
            (Some(term), _) if now < term.until => Role::Leader,
            (Some(_), _) => Role::Expired,
            (None, Some(_)) => Role::Follower,
            (None, None) => Role::None,
        }
    }
}

named! {
    /// What this process does with requests.
    pub enum Role {
        /// It grants them.
        Leader = "leader",
        /// It holds the Lease but could not renew it, and grants nothing until it can.
        Expired = "expired",
        /// It forwards them to the leader.
        Follower = "follower",
        /// It holds them, because no leader is known.
        None = "none",
        /// It forwards them to the queue whose agent it is, and takes no part in an election.
        Agent = "agent",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_whose_right_to_grant_has_passed_is_expired() {
        let mut leadership = LeadershipState::alone(ReceivedHandover::NONE);
        assert_eq!(leadership.role(Moment::from_nanos(5)), Role::Leader);
        leadership.term.as_mut().unwrap().until = Moment::from_nanos(5);
        assert_eq!(leadership.role(Moment::from_nanos(5)), Role::Expired);
        assert!(leadership.leads());
        leadership.term = None;
        assert_eq!(leadership.role(Moment::ZERO), Role::None);
        leadership.leader = Some(Leader {
            holder: "other".to_owned(),
            address: ([10, 0, 0, 1], 9091).into(),
        });
        assert_eq!(leadership.role(Moment::ZERO), Role::Follower);
    }

    #[test]
    fn the_pod_of_a_leader_is_the_start_of_its_holder() {
        let pod = |holder: &str| {
            let holder = holder.to_owned();
            let address = ([10, 0, 0, 1], 9091).into();
            Leader { holder, address }.pod().map(str::to_owned)
        };
        assert_eq!(pod("my-bot-x_01ab-2").as_deref(), Some("my-bot-x"));
        assert_eq!(pod("other"), None);
    }
}
