//! Where a request waits: on this pod, at the leader, or at the upstream of an agent.

pub mod destination;
pub mod leader_client;
pub mod leader_monitor;
pub mod limits;
pub mod reach;
pub mod router;
