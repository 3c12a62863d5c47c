//! The conditions of a GatewayQueue, and the reasons that others than the status need.

/// The condition that sums up all others.
pub const READY: &str = "Ready";

/// The condition that says whether pods of the present spec are on their way.
pub const PROGRESSING: &str = "Progressing";

/// The condition that says whether Discord takes the token.
pub const TOKEN_ACCEPTED: &str = "TokenAccepted";

/// The condition that says whether there are session starts to grant.
pub const SESSION_STARTS_AVAILABLE: &str = "SessionStartsAvailable";

/// The condition that says whether every pod reaches the leader.
pub const LEADER_REACHABLE: &str = "LeaderReachable";

/// Why nothing is granted when no pod leads.
pub const NO_LEADER: &str = "NoLeader";

/// The reasons of `Ready` about which nobody has to do anything.
pub const NORMAL: [&str; 4] = [
    "Granting",
    "RolloutInProgress",
    "ScaledToZero",
    "SessionStartsUnknown",
];
