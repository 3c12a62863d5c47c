//! The status of a GatewayQueue.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConditionType, Reason, schema};

/// The observed state of a queue.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayQueueStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The conditions of the queue. Ready: the queue grants identifies and all its pods run the
    /// current spec; if not, the message says what to do. Progressing: pods of the current spec
    /// are starting. TokenAccepted: Discord accepts the bot's token. SessionStartsAvailable:
    /// session starts are left to grant. LeaderReachable: every pod can reach the leader.
    /// Degraded: shards have repeated invalid sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Option<Vec<Condition>>,

    /// The URL to which shards send their requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,

    /// The pod that grants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,

    /// The number of existing pods, ready or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,

    /// The labels of the queue's pods, as a selector for kubectl.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,

    /// The number of shards that may identify at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<i64>,

    /// The number of shards that Discord recommends for this bot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recommended_shards: Option<i64>,

    /// The bot's session starts: what Discord last reported, less the grants since then. Absent
    /// without a token, and while unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_starts: Option<SessionStarts>,
}

impl GatewayQueueStatus {
    /// The condition of this type.
    pub fn condition(&self, type_: ConditionType) -> Option<&Condition> {
        let mut conditions = self.conditions.iter().flatten();
        conditions.find(|condition| condition.type_ == type_.as_str())
    }

    /// Whether this status says that the children of the spec of this generation were applied.
    pub fn is_applied(&self, generation: Option<i64>) -> bool {
        let progressing = self.condition(ConditionType::Progressing);
        let prevented = |reason: &str| Reason::parse(reason).is_some_and(Reason::prevents_apply);
        self.observed_generation == generation
            && progressing.is_some_and(|progressing| !prevented(&progressing.reason))
    }
}

/// The session starts of a bot.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionStarts {
    /// The number of session starts that Discord allows per period.
    pub total: i64,
    /// The number of session starts left.
    pub remaining: i64,
    /// When the current period ends and Discord resets the limit. Absent until the first session
    /// start of a period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub reset_time: Option<Time>,
}
