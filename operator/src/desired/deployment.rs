//! The Deployment. A new pod is ready before an old one stops, so that an old one can forward its
//! waiting clients to another leader.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Affinity, TopologySpreadConstraint};
use serde_json::{Value, json};

use super::metadata::Asked;
use super::volumes::{CA_FILE, TOKEN_FILE, mounts, volumes};
use super::{Error, Kind, Owner, POD_PORT, QueueDefaults, TOKEN, token_label};
use crate::api::{
    ADMIN_PORT, EnvVar, GatewayQueueSpec, ImagePullPolicy, PEER_PORT, PodSettings,
    RESERVED_VARIABLES, Resources, parse_duration,
};

/// The names of the ports: for shards, for probes and metrics, and for requests between the
/// queue's pods.
pub(super) const QUEUE_PORT: &str = "queue";
pub(super) const ADMIN: &str = "admin";
pub(super) const PEER: &str = "peer";

/// The default termination grace period, in seconds: waiting clients may need it.
const TERMINATION_GRACE: i64 = 600;

/// The seconds of it that are left for closing connections.
const CLOSING: i64 = 5;

/// Lower ports require a privilege, unless a sysctl allows them.
const FIRST_UNPRIVILEGED_PORT: i32 = 1024;

pub(super) fn deployment(
    owner: &Owner,
    spec: &GatewayQueueSpec,
    defaults: &QueueDefaults,
) -> Result<Value, Error> {
    let pod = spec.pod.clone().unwrap_or_default();
    let asked = Asked::inherited(spec).with(pod.labels.as_ref(), pod.annotations.as_ref());
    Ok(json!({"spec": {
        "replicas": spec.replicas,
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
        },
        "selector": own_pods(owner),
        "template": {
            "metadata": {
                "labels": pod_labels(owner, spec, &asked),
                "annotations": asked.annotations,
            },
            "spec": pod_spec(owner, spec, pod, defaults)?,
        },
    }}))
}

/// The labels of the pods, including their port and the hash of their token.
fn pod_labels(owner: &Owner, spec: &GatewayQueueSpec, asked: &Asked) -> BTreeMap<String, String> {
    let mut labels = owner.labels(asked);
    labels.insert(POD_PORT.to_owned(), spec.port.to_string());
    if spec.token_secret_ref.is_some() {
        labels.insert(TOKEN.to_owned(), token_label(spec));
    }
    labels
}

fn pod_spec(
    owner: &Owner,
    spec: &GatewayQueueSpec,
    pod: PodSettings,
    defaults: &QueueDefaults,
) -> Result<Value, Error> {
    Ok(json!({
        "serviceAccountName": Kind::ServiceAccount.name_for(owner),
        // One of the volumes contains it.
        "automountServiceAccountToken": false,
        // A Service named `peer` would otherwise set PEER_PORT.
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": termination_grace(&pod),
        "securityContext": pod_security(spec.port),
        "dnsConfig": dns_config(spec),
        "imagePullSecrets": pull_secrets(spec, defaults),
        "containers": [container(owner, spec, &pod, defaults)?],
        "volumes": volumes(spec),
        "nodeSelector": pod.node_selector,
        "tolerations": pod.tolerations,
        "affinity": affinity(owner, pod.affinity),
        "topologySpreadConstraints": spread(owner, pod.topology_spread_constraints),
        "priorityClassName": pod.priority_class_name,
    }))
}

/// Without it, Discord's name would be looked up in each domain of the cluster first. But if the spec
/// names another server or a proxy, that may be a name of the cluster, such as `proxy.infra`.
fn dns_config(spec: &GatewayQueueSpec) -> Option<Value> {
    let env = spec.pod.as_ref().and_then(|pod| pod.env.as_deref());
    let is_plain = spec.discord_api.is_none() && env.is_none_or(<[EnvVar]>::is_empty);
    is_plain.then(|| json!({"options": [{"name": "ndots", "value": "1"}]}))
}

/// The pull Secrets of the spec, else those of the operator's default image.
fn pull_secrets(spec: &GatewayQueueSpec, defaults: &QueueDefaults) -> Vec<Value> {
    let names: Vec<&String> = match &spec.image_pull_secrets {
        Some(secrets) => secrets.iter().map(|secret| &secret.name).collect(),
        None if spec.image.is_none() => defaults.image_pull_secrets.iter().collect(),
        None => Vec::new(),
    };
    let references = names.into_iter().map(|name| json!({ "name": name }));
    references.collect()
}

fn container(
    owner: &Owner,
    spec: &GatewayQueueSpec,
    pod: &PodSettings,
    defaults: &QueueDefaults,
) -> Result<Value, Error> {
    // The default policy belongs to the default image.
    let (image, policy) = match &spec.image {
        Some(image) => (image, spec.image_pull_policy),
        None => (
            &defaults.image,
            spec.image_pull_policy.or(defaults.image_pull_policy),
        ),
    };
    Ok(json!({
        "name": "queue",
        "image": image,
        "imagePullPolicy": policy.map(ImagePullPolicy::as_str),
        "env": env(owner, spec, pod)?,
        "ports": [port(QUEUE_PORT, spec.port), port(ADMIN, ADMIN_PORT), port(PEER, PEER_PORT)],
        // Frequent, so that a new pod soon receives requests.
        "readinessProbe": probe("/readyz", 2),
        "livenessProbe": probe("/livez", 10),
        "resources": resources(pod),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
        },
        "volumeMounts": mounts(spec),
        // For the status of a crashing pod.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }))
}

fn termination_grace(pod: &PodSettings) -> i64 {
    let asked = pod.termination_grace_period_seconds;
    asked.unwrap_or(TERMINATION_GRACE)
}

/// The affinity of the spec; if it has no anti-affinity, the pods prefer separate nodes.
fn affinity(owner: &Owner, asked: Option<Affinity>) -> Value {
    let mut affinity = json!(asked.unwrap_or_default());
    for side in ["podAffinity", "podAntiAffinity"] {
        let required = format!("/{side}/requiredDuringSchedulingIgnoredDuringExecution");
        for term in items(affinity.pointer_mut(&required)) {
            select_own_pods(owner, term);
        }
        let preferred = format!("/{side}/preferredDuringSchedulingIgnoredDuringExecution");
        for weighted in items(affinity.pointer_mut(&preferred)) {
            select_own_pods(owner, &mut weighted["podAffinityTerm"]);
        }
    }
    if affinity["podAntiAffinity"].is_null() {
        let term = json!({
            "labelSelector": own_pods(owner), "topologyKey": "kubernetes.io/hostname",
        });
        affinity["podAntiAffinity"] = json!({
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 100, "podAffinityTerm": term},
            ],
        });
    }
    affinity
}

/// The spread constraints of the spec.
fn spread(owner: &Owner, asked: Option<Vec<TopologySpreadConstraint>>) -> Value {
    let mut constraints = json!(asked);
    for constraint in items(Some(&mut constraints)) {
        select_own_pods(owner, constraint);
    }
    constraints
}

/// The items of a list; none if it is absent.
fn items(list: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    let items = list.and_then(Value::as_array_mut);
    items.into_iter().flatten()
}

/// Without a selector, an affinity term or a spread constraint would match no pods, so it selects
/// the queue's own.
fn select_own_pods(owner: &Owner, term: &mut Value) {
    if term["labelSelector"].is_null() {
        term["labelSelector"] = own_pods(owner);
    }
}

fn own_pods(owner: &Owner) -> Value {
    json!({"matchLabels": owner.selector()})
}

fn env(owner: &Owner, spec: &GatewayQueueSpec, pod: &PodSettings) -> Result<Vec<Value>, Error> {
    let shutdown_grace = (termination_grace(pod) - CLOSING).max(0);
    let mut env = vec![
        value("PORT", spec.port),
        value("ADMIN_PORT", ADMIN_PORT),
        value("PEER_PORT", PEER_PORT),
        value("IDENTIFY_INTERVAL", span("interval", &spec.interval)?),
        value("IDENTIFY_MARGIN", span("margin", &spec.margin)?),
        value("SESSION_RESERVE", spec.session_reserve),
        value("LEASE_NAME", Kind::Lease.name_for(owner)),
        value("LEASE_NAMESPACE", &owner.namespace),
        field("POD_NAME", "metadata.name"),
        field("POD_IP", "status.podIP"),
        value("SHUTDOWN_GRACE", format!("{shutdown_grace}s")),
        value("LOG_FORMAT", spec.log_format.as_str()),
        value("RUST_LOG", spec.log_level.as_str()),
    ];
    if let Some(host) = &spec.host {
        env.insert(0, value("HOST", host));
    }
    if spec.token_secret_ref.is_some() {
        env.push(value("DISCORD_TOKEN_FILE", TOKEN_FILE));
    }
    if let Some(api) = &spec.discord_api {
        env.push(value("DISCORD_API", api));
    }
    if spec.discord_ca_ref.is_some() {
        env.push(value("DISCORD_CA_FILE", CA_FILE));
    }
    if let Some(max_concurrency) = spec.max_concurrency {
        env.push(value("MAX_CONCURRENCY", max_concurrency));
    }
    // The schema rejects the reserved ones, but it may be older than this operator.
    let asked = pod.env.iter().flatten();
    let asked = asked.filter(|asked| !RESERVED_VARIABLES.contains(&asked.name.as_str()));
    env.extend(asked.map(|EnvVar { name, value }| {
        // The API server does not store an empty one.
        let value = value.as_ref().filter(|value| !value.is_empty());
        json!({"name": name, "value": value})
    }));
    Ok(env)
}

fn value(name: &str, value: impl ToString) -> Value {
    json!({"name": name, "value": value.to_string()})
}

fn field(name: &str, path: &str) -> Value {
    // The version is set, because the API server would set it.
    let field = json!({"apiVersion": "v1", "fieldPath": path});
    json!({"name": name, "valueFrom": {"fieldRef": field}})
}

/// A duration of the spec as the queue reads it: one number with one unit, rounded up.
fn span(field: &'static str, text: &str) -> Result<String, Error> {
    let duration = parse_duration(text).ok_or_else(|| Error::Duration {
        field,
        value: text.to_owned(),
    })?;
    let millis = duration.as_nanos().div_ceil(1_000_000);
    Ok(if duration == Duration::from_secs(duration.as_secs()) {
        format!("{}s", duration.as_secs())
    } else {
        format!("{millis}ms")
    })
}

fn port(name: &str, number: i32) -> Value {
    json!({"name": name, "containerPort": number, "protocol": "TCP"})
}

fn probe(path: &str, period_seconds: i32) -> Value {
    json!({
        "httpGet": {"path": path, "port": ADMIN},
        "periodSeconds": period_seconds,
        // The queue's /readyz waits up to 1.5 s for the Lease to be read.
        "timeoutSeconds": 2,
    })
}

fn resources(pod: &PodSettings) -> Value {
    let is_empty = |resources: &&Resources| {
        let Resources { limits, requests } = resources;
        let empty =
            |amounts: &Option<BTreeMap<_, _>>| amounts.as_ref().is_none_or(BTreeMap::is_empty);
        empty(limits) && empty(requests)
    };
    // Empty resources mean the same as absent ones.
    match pod.resources.as_ref().filter(|asked| !is_empty(asked)) {
        Some(asked) => json!(asked),
        // No CPU limit, because a throttled queue grants late.
        None => json!({
            "limits": {"memory": "256Mi"},
            "requests": {"cpu": "10m", "memory": "32Mi"},
        }),
    }
}

/// The security context that the restricted Pod Security Standard requires. It sets no user,
/// because some platforms assign one and reject pods that set another.
fn pod_security(port: i32) -> Value {
    let mut security = json!({
        "runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    if port < FIRST_UNPRIVILEGED_PORT {
        // A safe sysctl of the pod, instead of a privilege for a low port.
        security["sysctls"] =
            json!([{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]);
    }
    security
}

#[cfg(test)]
mod tests;
