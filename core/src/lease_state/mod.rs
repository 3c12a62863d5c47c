//! The state that a queue publishes on its Lease.
//!
//! The leader of a queue writes annotations on the Lease of its GatewayQueue, and the operator
//! turns them into the status. This module is the one place where both agree on keys and values.

mod annotations;
mod handover;
pub mod last_known;
mod unreachable;

pub use annotations::{
    BlockedBy, Entry, HANDOVER, LEADER_ADDRESS, MAX_LISTED_SHARDS, SessionStarts,
    TOKEN_FINGERPRINT, TokenState,
};
pub use handover::{Handover, HandoverRecord};
pub use unreachable::{Unreachable, obsolete, unreachable};
