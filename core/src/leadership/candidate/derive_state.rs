//! The leadership state that follows from the election.

use crate::leadership::candidate::Candidate;
use crate::leadership::candidate::event::Event;
use crate::leadership::election::MAX_DURATION;
use crate::leadership::state::{Leader, pod_of};
use crate::leadership::term::Term;
use crate::lease_state::last_known::LastKnown;
use crate::time::Moment;

impl Candidate {
    fn reason_of_loss(&self) -> &'static str {
        if self.election.has_resigned() {
            "this pod shuts down"
        } else if self.election.leader().is_some() {
            "another pod has taken the Lease"
        } else {
            "the Lease was deleted, or another client changed it"
        }
    }

    /// Derives the state from the election, and reports what changed.
    pub(super) fn update(&mut self, now: Moment) {
        let expired = self.election.term().is_some_and(|term| term.until <= now);
        match (self.expired, expired) {
            (false, true) => self.events.push(Event::Expired),
            (true, false) => self.events.push(Event::ExpiryEnded),
            _ => {}
        }
        self.expired = expired;

        let term = self.election.term().cloned();
        let number = |term: &Option<Term>| term.as_ref().map(|term| term.number);
        if number(&self.state.term) != number(&term) {
            self.state.known = None;
            self.events.push(match &term {
                Some(term) => {
                    // Only the last leader can have written it.
                    self.state.known = self.known();
                    Event::BecameLeader(term.holder.clone())
                }
                None => Event::LostLeadership(self.reason_of_loss()),
            });
        }
        self.state.term = term;

        let leader = self.leader();
        if self.state.leader != leader
            && let Some(leader) = &leader
        {
            let is_former_self = leader.pod() == pod_of(&self.config.identity);
            self.events.push(if is_former_self {
                Event::FormerSelfIsLeader(leader.holder.clone())
            } else {
                Event::OtherBecameLeader(leader.clone())
            });
        }
        self.state.leader = leader;
    }

    /// Returns the session starts that the last leader published, less what it may have granted
    /// since.
    fn known(&self) -> Option<LastKnown> {
        let known = LastKnown::read(&self.inherited.as_ref()?.annotations)?;
        Some(known.less_unseen(MAX_DURATION, self.config.spacing))
    }

    fn leader(&self) -> Option<Leader> {
        let (holder, address) = self.election.leader()?;
        Some(Leader {
            holder: holder.to_owned(),
            address: address.parse().ok()?,
        })
    }
}
