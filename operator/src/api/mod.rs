//! The type GatewayQueue: its spec, with the rules that the API server checks.
//!
//! The schema must remain narrower than these types: an object that the API server stores and
//! these types cannot read is not reconciled. Hence strings and signed numbers here, and rules
//! in CEL.
#![allow(
    unreachable_pub,
    reason = "KubeSchema derives by copies of the types inside of functions"
)]

mod conditions;
mod crd;
mod duration;
mod metadata;
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
pub use metadata::InheritedMetadata;
pub(crate) use names::names;
pub use network_policy::NetworkPolicySettings;
pub use pod::{EnvVar, PodSettings, RESERVED_VARIABLES, Resources};
pub use service::{IpFamily, IpFamilyPolicy, ServiceSettings, ServiceType, TrafficPolicy};
pub use status::{GatewayQueueStatus, SessionStarts};
pub(crate) use stored::reference;
pub use stored::{Stored, Unreadable};

/// The port of a queue's probes, metrics and state.
pub const ADMIN_PORT: i32 = 9090;
/// The port on which a queue's pods reach each other.
pub const PEER_PORT: i32 = 9091;

/// The desired state of a queue.
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
    doc = "A queue that paces the identifies of one Discord bot.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether the queue grants identifies and all its pods run the current spec"
    ),
    printcolumn(
        name = "URL",
        type_ = "string",
        json_path = ".status.url",
        description = "The URL to which shards send their requests"
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
        description = "Session starts left until Discord resets the limit"
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
        description = "When Discord resets the limit of session starts"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        priority = 1,
        description = "Why the queue is or is not ready"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1,
        description = "What is wrong, and what to do"
    ),
    validation = Rule::new(
        "size(self.metadata.name) <= 57 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"
    ).message(
        "metadata.name is also the name of a Service, and with -queue appended that of other objects: use at most 57 characters of a-z, 0-9 and '-', starting with a letter and not ending with '-'"
    )
)]
#[x_kube(
    validation = Rule::new("!(has(self.tokenSecretRef) && has(self.maxConcurrency))").message(
        "tokenSecretRef and maxConcurrency are mutually exclusive: with a token, Discord reports max_concurrency. Remove one of them"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct GatewayQueueSpec {
    /// The IP address on which the queue listens in its pod. If absent, it listens on all IPv4
    /// and IPv6 addresses. A loopback address is rejected, because the Service could not reach
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 45))]
    #[x_kube(validation = Rule::new("isIP(self) && !ip(self).isLoopback()").message(
        "host must be an IP address that other pods can reach, such as 0.0.0.0 or ::, not a name or a loopback address"
    ))]
    pub host: Option<String>,

    /// The port on which the queue listens in its pod, 1 to 65535 except 9090 and 9091. Clients
    /// use service.port instead. Defaults to 5000.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65535))]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 65535 && self != 9090 && self != 9091").message(
        "port must be from 1 to 65535, and not 9090 or 9091, which are the admin port and the peer port"
    ))]
    pub port: i32,

    /// The Secret with the bot's token, in the namespace of this object. The queue applies the
    /// limits that Discord reports for this bot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<TokenSecretRef>,

    /// The number of pods, 0 to 10. One of them, the leader, grants; the others forward
    /// requests to it, and one of them takes over if it fails. With 0, nothing is granted.
    /// Defaults to 1.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 0, max = 10))]
    #[x_kube(validation = Rule::new("self >= 0 && self <= 10").message(
        "replicas must be from 0 to 10: only one pod grants, so 2 or 3 are enough"
    ))]
    pub replicas: i32,

    /// The number of shards that may identify at the same time, 1 to 4096, for a queue without
    /// a token. If absent, it is 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub max_concurrency: Option<i32>,

    /// The minimum time between two identifies of a bucket (the shards with the same number
    /// modulo max_concurrency), a duration from 5s to 1h. Defaults to 5s.
    #[serde(default = "default_interval")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(
        r"self.matches('^([0-9]{1,7}([.][0-9]{1,3})?(ms|s|m|h))+$') && duration(self) >= duration('5s') && duration(self) <= duration('1h')"
    ).message("interval must be a duration from 5s (Discord's own interval) to 1h, such as 5s, 5500ms or 1m"))]
    pub interval: String,

    /// The time added to the interval, because the time from a grant to the arrival of the
    /// identify at Discord varies; a duration from 0s to 60s. Use 500ms for libraries that
    /// connect to the gateway only after the grant. Defaults to 250ms.
    #[serde(default = "default_margin")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(
        r"self.matches('^([0-9]{1,7}([.][0-9]{1,3})?(ms|s|m|h))+$') && duration(self) <= duration('60s')"
    ).message("margin must be a duration from 0s to 60s, such as 250ms or 1s"))]
    pub margin: String,

    /// The number of session starts that are never granted, 0 to 1000000. It has an effect only
    /// with a token. Defaults to 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub session_reserve: i32,

    /// The base URL of Discord's REST API, or of a proxy for it: http or https, with the API
    /// version, without credentials, query or fragment. If absent, it is Discord's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    // A pattern for the port would exceed the cost that the API server allows.
    #[x_kube(validation = Rule::new(
        r"isURL(self) && self.matches('^https?://[^/?#@[:space:]]+(/[^?#@[:space:]]*)?$') && (url(self).getPort() == '' || (size(url(self).getPort()) <= 5 && int(url(self).getPort()) >= 1 && int(url(self).getPort()) <= 65535))"
    ).message("discordApi must be an http or https URL without credentials, query or fragment, such as https://discord.com/api/v10; its port, if any, must be from 1 to 65535"))]
    pub discord_api: Option<String>,

    /// The ConfigMap with CA certificates, in PEM, that the queue trusts for discordApi in addition
    /// to the public ones, such as that of a proxy. It is in the namespace of this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discord_ca_ref: Option<DiscordCaRef>,

    /// Labels and annotations of all objects of the queue, such as those that a policy of the
    /// cluster requires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inherited_metadata: Option<InheritedMetadata>,

    /// The Service of the queue. It has the name of this object; that of the other objects is
    /// followed by -queue.
    #[serde(default)]
    pub service: ServiceSettings,

    /// The image of the queue. If absent, it is the operator's default image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^\S+$"))]
    pub image: Option<String>,

    /// When the node pulls the image. If absent, the operator's default applies, or the default
    /// of Kubernetes if image is set or the operator has no default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,

    /// The Secrets for pulling the image, in the namespace of this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Option<Vec<ImagePullSecret>>,

    /// The least severe level that the queue logs. Defaults to info.
    #[serde(default)]
    pub log_level: LogLevel,

    /// The format of the queue's log lines: text, or json. Defaults to text.
    #[serde(default)]
    pub log_format: LogFormat,

    /// Settings of the queue's pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodSettings>,

    /// Which clients can reach the queue's pods. If absent, all can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkPolicySettings>,
}

/// Where the bot's token is stored.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct TokenSecretRef {
    /// The name of the Secret.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = schema::SUBDOMAIN)
    )]
    pub name: String,
    /// The key in the Secret. Defaults to token.
    #[serde(default = "default_token_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// Where the CA certificates for Discord's API are stored.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct DiscordCaRef {
    /// The name of the ConfigMap.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = schema::SUBDOMAIN)
    )]
    pub name: String,
    /// The key in the ConfigMap. Defaults to ca.crt.
    #[serde(default = "default_ca_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

names! {
    /// When a node pulls the image.
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

/// The least severe level that is logged.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the levels of every logger")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

impl LogLevel {
    /// The value for RUST_LOG.
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
    /// Every format.
    pub const ALL: [Self; 2] = [Self::Text, Self::Json];

    /// The value for LOG_FORMAT.
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

fn default_ca_key() -> String {
    "ca.crt".to_owned()
}

fn default_token_key() -> String {
    "token".to_owned()
}

#[cfg(test)]
mod tests;
