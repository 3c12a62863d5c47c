//! The state that a queue publishes on its Lease.
//!
//! The leader of a queue writes annotations on the Lease of its GatewayQueue, and the operator
//! turns them into the status. This module is the one place where both agree on keys and values.

mod annotations;
pub mod last_known;
mod release;
mod unreachable;

pub use annotations::{
    BlockedBy, Entry, HANDOVER, LEADER_ADDRESS, SessionStarts, TOKEN_FINGERPRINT, TokenState,
};
pub use release::{Left, Release};
pub use unreachable::{Unreachable, obsolete, unreachable};
