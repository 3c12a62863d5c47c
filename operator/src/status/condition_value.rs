//! The value of a condition: its status, reason and message.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::text::clip;
use crate::api::{ConditionType, GatewayQueueStatus, Reason};

/// The value of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConditionValue {
    status: &'static str,
    pub(super) reason: Reason,
    pub(super) message: String,
}

impl ConditionValue {
    pub(super) fn yes(reason: Reason, message: impl Into<String>) -> Self {
        Self::new("True", reason, message)
    }

    pub(super) fn no(reason: Reason, message: impl Into<String>) -> Self {
        Self::new("False", reason, message)
    }

    pub(super) fn unknown(reason: Reason, message: impl Into<String>) -> Self {
        Self::new("Unknown", reason, message)
    }

    fn new(status: &'static str, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            status,
            reason,
            message: message.into(),
        }
    }

    pub(super) fn is_true(&self) -> bool {
        self.status == "True"
    }

    /// The condition with this value. The time of its last transition changes only with its
    /// status.
    pub(super) fn condition(
        self,
        type_: ConditionType,
        before: Option<&GatewayQueueStatus>,
        generation: Option<i64>,
        now: Timestamp,
    ) -> Condition {
        let before = before.and_then(|before| before.condition(type_));
        let unchanged = before.filter(|before| before.status == self.status);
        Condition {
            type_: type_.as_str().to_owned(),
            status: self.status.to_owned(),
            reason: self.reason.as_str().to_owned(),
            message: clip(&self.message),
            last_transition_time: unchanged
                .map_or(Time(now), |before| before.last_transition_time.clone()),
            observed_generation: generation,
        }
    }
}
