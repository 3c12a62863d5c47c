//! Which pod may grant: the election over a Lease, and what followers know of the leader.

pub mod candidate;
pub mod election;
pub mod leader_health;
pub mod lease_object;
pub mod state;
pub mod term;
