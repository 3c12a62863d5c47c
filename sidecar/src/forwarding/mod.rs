//! Where a request waits: on this pod, or at the leader.

pub mod leader_client;
pub mod leader_monitor;
pub mod reach;
pub mod router;
