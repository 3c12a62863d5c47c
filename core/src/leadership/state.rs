//! Where this process stands in the election.

use std::net::SocketAddr;

use crate::leadership::term::{ReceivedHandover, Term};
use crate::lease_state::last_known::LastKnown;
use crate::time::Moment;

/// What the election told last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeadershipState {
    /// The term in which this process leads, if it does. Its right to grant may
    /// have run out.
    pub term: Option<Term>,
    /// What the leader before knew of the session starts.
    pub known: Option<LastKnown>,
    /// Another leader, if there is one that can be asked.
    pub leader: Option<Leader>,
}

/// A leader elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Its name in its term.
    pub holder: String,
    /// The address for forwarded requests.
    pub address: SocketAddr,
}

impl Leader {
    /// The pod that leads: its name in its term begins with that.
    pub fn pod(&self) -> Option<&str> {
        self.holder.rsplit_once('_').map(|(pod, _)| pod)
    }
}

impl LeadershipState {
    /// Nothing is known yet.
    pub const UNKNOWN: Self = Self {
        term: None,
        known: None,
        leader: None,
    };

    /// There is no election: this process leads as long as it lives, after what
    /// it knows of a predecessor.
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

    /// Whether a waiter belongs into the queue of this process.
    pub fn leads(&self) -> bool {
        self.term.is_some()
    }

    /// For people.
    pub fn role(&self, now: Moment) -> Role {
        match (&self.term, &self.leader) {
            (Some(term), _) if now < term.until => Role::Leader,
            (Some(_), _) => Role::Expired,
            (None, Some(_)) => Role::Follower,
            (None, None) => Role::None,
        }
    }
}

/// What this process does with waiters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It grants.
    Leader,
    /// It is the holder, but could not renew: it grants nothing until it can.
    Expired,
    /// It asks the leader for them.
    Follower,
    /// It holds them, as nobody leads or it cannot know who does.
    None,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Leader, Self::Expired, Self::Follower, Self::None];

    /// The word that stands for it in metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Expired => "expired",
            Self::Follower => "follower",
            Self::None => "none",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_whose_right_ran_out_has_lapsed() {
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
    fn the_pod_of_a_leader_is_known_by_its_name_in_its_term() {
        let pod = |holder: &str| {
            let holder = holder.to_owned();
            let address = ([10, 0, 0, 1], 9091).into();
            Leader { holder, address }.pod().map(str::to_owned)
        };
        assert_eq!(pod("my-bot-x_01ab-2").as_deref(), Some("my-bot-x"));
        assert_eq!(pod("somebody"), None);
    }
}
