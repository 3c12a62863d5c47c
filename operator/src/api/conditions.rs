//! The conditions of a GatewayQueue, and the reasons of conditions and events.

use super::names::names;

names! {
    /// A type of condition.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum ConditionType {
        /// Whether the queue grants, and all pods run the current spec.
        Ready,
        /// Whether pods of the current spec are starting.
        Progressing,
        /// Whether Discord accepts the token.
        TokenAccepted,
        /// Whether there are session starts to grant.
        SessionStartsAvailable,
        /// Whether every pod reaches the leader.
        LeaderReachable,
        /// Whether shards have repeated invalid sessions.
        Degraded,
    }
}

names! {
    /// The reason of a condition or an event. docs/gatewayqueue.md explains each.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[allow(missing_docs, reason = "the names say it")]
    pub enum Reason {
        Accepted,
        ApplyFailed,
        Available,
        ChildRefused,
        ChildReverted,
        ChildRewritten,
        Complete,
        DiscordUnreachable,
        Granting,
        Healthy,
        ImagePullFailed,
        InvalidSessions,
        InvalidSpec,
        LeaderReachable,
        LeaderUnreachable,
        NameTaken,
        NoLeader,
        NoToken,
        NotReady,
        PodCrashing,
        PodFailed,
        PodRefused,
        PodUnschedulable,
        Reachable,
        RolloutInProgress,
        ScaledToZero,
        SessionStartsExhausted,
        SessionStartsUnknown,
        TokenMissing,
        TokenRejected,
        TokenShared,
        Unchecked,
    }
}

impl Reason {
    /// The reason of this name.
    pub fn parse(name: &str) -> Option<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|reason| reason.as_str() == name)
    }

    /// Whether nothing has to be done about a condition `Ready` with this reason.
    pub fn is_normal(self) -> bool {
        matches!(
            self,
            Self::Granting
                | Self::RolloutInProgress
                | Self::ScaledToZero
                | Self::SessionStartsUnknown
        )
    }

    /// Whether a condition `Progressing` with this reason means that the children were not
    /// applied.
    pub fn prevents_apply(self) -> bool {
        matches!(
            self,
            Self::ApplyFailed
                | Self::ChildRefused
                | Self::InvalidSpec
                | Self::NameTaken
                | Self::TokenShared
        )
    }
}
