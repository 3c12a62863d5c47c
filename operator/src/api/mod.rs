//! The type GatewayQueue: its spec, with the rules that the API server checks.
//!
//! The schema is narrower than these types, and must stay so: an object that
//! the API server stores but these types cannot read would stop the watch for
//! all objects. Hence strings and signed numbers here, and the rules in CEL.
#![allow(
    unreachable_pub,
    reason = "KubeSchema derives by copies of the types inside of functions"
)]

mod conditions;
mod crd;
mod duration;
mod names;
mod network_policy;
mod pod;
mod schema;
mod service;
mod status;
mod stored;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use conditions::{ConditionType, Reason};
pub use crd::{CRD, crd, crd_yaml};
pub use duration::parse_duration;
pub(crate) use names::names;
pub use network_policy::NetworkPolicySettings;
pub use pod::{PodSettings, Resources};
pub use service::{ServiceSettings, ServiceType};
pub use status::{GatewayQueueStatus, SessionStarts};
pub(crate) use stored::reference;
pub use stored::{Stored, Unreadable};

/// The port of the queue's probes, metrics and state.
pub const ADMIN_PORT: i32 = 9090;
/// The port on which queue pods reach each other.
pub const PEER_PORT: i32 = 9091;

/// What a queue shall be.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "gatewayqueue.dev",
    version = "v1alpha1",
    kind = "GatewayQueue",
    namespaced,
    shortname = "gwq",
    category = "discord",
    status = "GatewayQueueStatus",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    derive = "PartialEq",
    doc = "A queue in which the shards of one Discord bot wait until they may identify.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether shards are granted their turns"
    ),
    printcolumn(
        name = "URL",
        type_ = "string",
        json_path = ".status.url",
        description = "Where shards ask for their turn"
    ),
    printcolumn(
        name = "Concurrency",
        type_ = "integer",
        json_path = ".status.maxConcurrency",
        description = "How many shards may identify at the same time"
    ),
    printcolumn(
        name = "Remaining",
        type_ = "integer",
        json_path = ".status.sessionStarts.remaining",
        description = "Session starts left in this window"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Leader",
        type_ = "string",
        json_path = ".status.leader",
        priority = 1,
        description = "The pod that grants"
    ),
    printcolumn(
        name = "Reset",
        type_ = "string",
        json_path = ".status.sessionStarts.resetTime",
        priority = 1,
        description = "When Discord opens the next window"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        priority = 1,
        description = "Why the queue is ready, or why not"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1,
        description = "The reason in a sentence, and what to do"
    ),
    validation = Rule::new(
        "size(self.metadata.name) <= 63 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"
    ).message(
        "metadata.name becomes the name of a Service: use at most 63 characters of a-z, 0-9 and '-', a letter first and no '-' last"
    )
)]
#[x_kube(
    validation = Rule::new("!(has(self.tokenSecretRef) && has(self.maxConcurrency))").message(
        "tokenSecretRef and maxConcurrency exclude each other: with a token Discord tells max_concurrency, so set maxConcurrency only for a queue without a token"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct GatewayQueueSpec {
    /// The IP address on which the queue listens in its pod. A loopback address is
    /// refused: no Service reaches it. When absent, the queue listens on every address
    /// of IPv4 and IPv6. 0.0.0.0 stands for all of IPv4 alone: leave it out in a cluster
    /// without IPv4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 45))]
    #[x_kube(validation = Rule::new("isIP(self) && !ip(self).isLoopback()").message(
        "host must be an IP address that other pods can reach, such as 0.0.0.0 (all addresses) or ::, and not a name or a loopback address"
    ))]
    pub host: Option<String>,

    /// The port on which the queue listens in its pod, from 1 to 65535. Ports
    /// 9090 and 9091 belong to the queue itself. Clients use service.port. Defaults
    /// to 5000.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65535))]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 65535 && self != 9090 && self != 9091").message(
        "port must be from 1 to 65535, and not 9090 or 9091, which are the queue's own admin and peer ports"
    ))]
    pub port: i32,

    /// The Secret that holds the bot's token, in the namespace of this object.
    /// The queue then keeps to the limits that Discord tells for this bot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<TokenSecretRef>,

    /// How many pods the queue has, from 0 to 10. One of them leads and grants;
    /// the others hold clients too, ask the leader for their turns, and one of
    /// them takes over when it goes. With 0 nobody is granted anything. Defaults to 1.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 0, max = 10))]
    #[x_kube(validation = Rule::new("self >= 0 && self <= 10").message(
        "replicas must be from 0 to 10: one pod grants, and the others only stand by, so 2 or 3 are plenty"
    ))]
    pub replicas: i32,

    /// How many shards may identify at the same time (max_concurrency), for a
    /// queue without a token: from 1 to 4096. When absent, such a queue uses 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub max_concurrency: Option<i32>,

    /// The time that Discord wants between two identifies of one bucket, as a
    /// duration from 5s to 1h. Defaults to 5s.
    #[serde(default = "default_interval")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(
        r"self.matches('^([0-9]{1,7}([.][0-9]{1,3})?(ms|s|m|h))+$') && duration(self) >= duration('5s') && duration(self) <= duration('1h')"
    ).message("interval must be a duration from 5s (Discord's own interval) to 1h, such as 5s, 5500ms or 1m"))]
    pub interval: String,

    /// What is added to the interval, since it is Discord that measures, and
    /// the way from a grant to the identify takes its own time: a duration from
    /// 0s to 60s. 500ms suits libraries that dial only after the grant. Defaults to
    /// 250ms.
    #[serde(default = "default_margin")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(
        r"self.matches('^([0-9]{1,7}([.][0-9]{1,3})?(ms|s|m|h))+$') && duration(self) <= duration('60s')"
    ).message("margin must be a duration from 0s to 60s, such as 250ms or 1s"))]
    pub margin: String,

    /// How many session starts to leave untouched, say for a deploy by hand:
    /// from 0 to 1000000. Only with a token. Defaults to 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub session_reserve: i32,

    /// The base URL of Discord's REST API, for a REST proxy: http or https, with
    /// the version, without credentials, query or fragment. When absent, it is
    /// Discord's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    // Not by a pattern of the port: that would cost more than an API server allows.
    #[x_kube(validation = Rule::new(
        r"isURL(self) && self.matches('^https?://[^/?#@[:space:]]+(/[^?#@[:space:]]*)?$') && (url(self).getPort() == '' || (size(url(self).getPort()) <= 5 && int(url(self).getPort()) >= 1 && int(url(self).getPort()) <= 65535))"
    ).message("discordApi must be an http or https URL without credentials, query or fragment, with a port from 1 to 65535 if it names one, such as https://discord.com/api/v10"))]
    pub discord_api: Option<String>,

    /// The Service in front of the queue. It has the name of this object.
    #[serde(default)]
    pub service: ServiceSettings,

    /// The image of the queue. When absent, it is the one the operator was
    /// installed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^\S+$"))]
    pub image: Option<String>,

    /// When the node pulls the image. When absent, it is what the operator was
    /// installed with, else the choice of Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,

    /// Secrets, in the namespace of this object, with which the image is pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Option<Vec<ImagePullSecret>>,

    /// The least severe messages that the queue logs. Defaults to info.
    #[serde(default)]
    pub log_level: LogLevel,

    /// The form of the queue's log lines: text for people, json for machines.
    /// Defaults to text.
    #[serde(default)]
    pub log_format: LogFormat,

    /// How the queue's pod is made and where it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodSettings>,

    /// Who can reach the queue's pods. When absent, everybody can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkPolicySettings>,
}

/// Where the bot's token is.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct TokenSecretRef {
    /// The name of the Secret.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = schema::SUBDOMAIN)
    )]
    pub name: String,
    /// The key in the Secret under which the token is. Defaults to token.
    #[serde(default = "default_token_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

names! {
    /// When a node pulls an image.
    #[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[allow(missing_docs, reason = "the names of Kubernetes")]
    pub enum ImagePullPolicy {
        Always,
        IfNotPresent,
        Never,
    }
}

/// A Secret with which an image is pulled.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ImagePullSecret {
    /// The name of the Secret.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = schema::SUBDOMAIN)
    )]
    pub name: String,
}

/// The least severe messages that are logged.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the words of every logger")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the words say it")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

impl LogLevel {
    /// As RUST_LOG takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl LogFormat {
    /// Every format there is.
    pub const ALL: [Self; 2] = [Self::Text, Self::Json];

    /// As LOG_FORMAT takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

fn default_port() -> i32 {
    5000
}

fn default_replicas() -> i32 {
    1
}

fn default_interval() -> String {
    "5s".to_owned()
}

fn default_margin() -> String {
    "250ms".to_owned()
}

fn default_token_key() -> String {
    "token".to_owned()
}

#[cfg(test)]
mod tests;
