//! The queue itself: one pod, replaced rather than joined by its successor.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, KeyToPath,
    LocalObjectReference, ObjectFieldSelector, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
    ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext, Sysctl, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Error, Owner, QueueDefaults};
use crate::api::{
    ADMIN_PORT, GatewayQueueSpec, ImagePullPolicy, PodSettings, TokenSecretRef, parse_duration,
};

/// The name of the port on which shards ask for their turn.
pub(super) const QUEUE_PORT: &str = "queue";
const ADMIN: &str = "admin";

const TOKEN_VOLUME: &str = "token";
const TOKEN_DIRECTORY: &str = "/var/run/secrets/gatewayqueue.dev";
const TOKEN_FILE: &str = "token";

/// Seconds that a pod may take to end when the spec does not say.
const TERMINATION_GRACE: i64 = 30;

/// Below this port the kernel wants a privilege, unless it is told otherwise.
const FIRST_UNPRIVILEGED_PORT: i32 = 1024;

pub(super) fn deployment(
    owner: &Owner,
    spec: &GatewayQueueSpec,
    defaults: &QueueDefaults,
) -> Result<Deployment, Error> {
    let pod = spec.pod.clone().unwrap_or_default();
    Ok(Deployment {
        metadata: owner.metadata(),
        spec: Some(DeploymentSpec {
            replicas: Some(1),
            // Two queues that grant at the same time would break the spacing,
            // so the old pod is gone before the new one starts.
            strategy: Some(DeploymentStrategy {
                type_: Some("Recreate".to_owned()),
                rolling_update: None,
            }),
            selector: LabelSelector {
                match_labels: Some(owner.selector()),
                ..LabelSelector::default()
            },
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(owner.labels(pod.labels.as_ref())),
                    annotations: pod.annotations.clone(),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod_spec(owner, spec, pod, defaults)?),
            },
            ..DeploymentSpec::default()
        }),
        status: None,
    })
}

fn pod_spec(
    owner: &Owner,
    spec: &GatewayQueueSpec,
    pod: PodSettings,
    defaults: &QueueDefaults,
) -> Result<PodSpec, Error> {
    let container = container(owner, spec, &pod, defaults)?;
    Ok(PodSpec {
        service_account_name: Some(owner.name.clone()),
        automount_service_account_token: Some(true),
        // A Service called `peer` would otherwise set PEER_PORT.
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(
            pod.termination_grace_period_seconds
                .unwrap_or(TERMINATION_GRACE),
        ),
        security_context: Some(pod_security(spec.port)),
        image_pull_secrets: spec.image_pull_secrets.as_ref().map(|secrets| {
            secrets
                .iter()
                .map(|secret| LocalObjectReference {
                    name: secret.name.clone(),
                })
                .collect()
        }),
        containers: vec![container],
        volumes: spec
            .token_secret_ref
            .as_ref()
            .map(|t| vec![token_volume(t)]),
        node_selector: pod.node_selector,
        tolerations: pod.tolerations,
        affinity: pod.affinity,
        topology_spread_constraints: pod.topology_spread_constraints,
        priority_class_name: pod.priority_class_name,
        ..PodSpec::default()
    })
}

fn container(
    owner: &Owner,
    spec: &GatewayQueueSpec,
    pod: &PodSettings,
    defaults: &QueueDefaults,
) -> Result<Container, Error> {
    // The operator's policy is about the operator's image.
    let (image, policy) = match &spec.image {
        Some(image) => (image, spec.image_pull_policy),
        None => (
            &defaults.image,
            spec.image_pull_policy.or(defaults.image_pull_policy),
        ),
    };
    Ok(Container {
        name: "queue".to_owned(),
        image: Some(image.clone()),
        image_pull_policy: policy.map(ImagePullPolicy::word).map(str::to_owned),
        env: Some(env(owner, spec)?),
        ports: Some(vec![port(QUEUE_PORT, spec.port), port(ADMIN, ADMIN_PORT)]),
        // Often, so that a new pod takes requests at once; it costs nothing.
        readiness_probe: Some(probe("/readyz", 2)),
        liveness_probe: Some(probe("/livez", 10)),
        resources: Some(resources(pod)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                add: None,
            }),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        }),
        volume_mounts: spec.token_secret_ref.as_ref().map(|_| {
            vec![VolumeMount {
                name: TOKEN_VOLUME.to_owned(),
                mount_path: TOKEN_DIRECTORY.to_owned(),
                read_only: Some(true),
                ..VolumeMount::default()
            }]
        }),
        ..Container::default()
    })
}

fn env(owner: &Owner, spec: &GatewayQueueSpec) -> Result<Vec<EnvVar>, Error> {
    let mut env = vec![
        value("HOST", &spec.host),
        value("PORT", spec.port),
        value("ADMIN_PORT", ADMIN_PORT),
        value("IDENTIFY_INTERVAL", span("interval", &spec.interval)?),
        value("IDENTIFY_MARGIN", span("margin", &spec.margin)?),
        value("SESSION_RESERVE", spec.session_reserve),
        value("LEASE_NAME", &owner.name),
        value("LEASE_NAMESPACE", &owner.namespace),
        field("POD_NAME", "metadata.name"),
        field("POD_IP", "status.podIP"),
        value("LOG_FORMAT", spec.log_format.word()),
        value("RUST_LOG", spec.log_level.word()),
    ];
    if spec.token_secret_ref.is_some() {
        let file = format!("{TOKEN_DIRECTORY}/{TOKEN_FILE}");
        env.push(value("DISCORD_TOKEN_FILE", file));
    }
    if let Some(api) = &spec.discord_api {
        env.push(value("DISCORD_API", api));
    }
    if let Some(max_concurrency) = spec.max_concurrency {
        env.push(value("MAX_CONCURRENCY", max_concurrency));
    }
    Ok(env)
}

fn value(name: &str, value: impl ToString) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.to_string()),
        value_from: None,
    }
}

fn field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                // Named, since the API server would fill it in.
                api_version: Some("v1".to_owned()),
                field_path: path.to_owned(),
            }),
            ..EnvVarSource::default()
        }),
    }
}

/// A duration of the spec as the queue reads it: one number, one unit. Never
/// shorter than the spec says.
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

fn port(name: &str, number: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

fn probe(path: &str, period_seconds: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(ADMIN.to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(2),
        ..Probe::default()
    }
}

fn resources(pod: &PodSettings) -> ResourceRequirements {
    let quantities = |pairs: &[(&str, &str)]| {
        let pairs = pairs
            .iter()
            .map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())));
        Some(pairs.collect::<BTreeMap<_, _>>())
    };
    match &pod.resources {
        Some(asked) => ResourceRequirements {
            limits: asked.limits.clone(),
            requests: asked.requests.clone(),
            claims: None,
        },
        // No limit of CPU: a throttled queue grants late.
        None => ResourceRequirements {
            limits: quantities(&[("memory", "256Mi")]),
            requests: quantities(&[("cpu", "10m"), ("memory", "32Mi")]),
            claims: None,
        },
    }
}

/// What the restricted Pod Security Standard asks for. The user is the image's
/// own: some platforms assign one, and refuse pods that name another.
fn pod_security(port: i32) -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        // A safe sysctl, of the pod alone: no privilege for a low port.
        sysctls: (port < FIRST_UNPRIVILEGED_PORT).then(|| {
            vec![Sysctl {
                name: "net.ipv4.ip_unprivileged_port_start".to_owned(),
                value: "0".to_owned(),
            }]
        }),
        ..PodSecurityContext::default()
    }
}

/// The token as a file, so that a new one arrives without a restart, and as an
/// optional one: with a required one the pod would hang where only an event
/// says why, while the queue itself can say what is missing.
fn token_volume(token: &TokenSecretRef) -> Volume {
    Volume {
        name: TOKEN_VOLUME.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(token.name.clone()),
            optional: Some(true),
            items: Some(vec![KeyToPath {
                key: token.key.clone(),
                path: TOKEN_FILE.to_owned(),
                mode: None,
            }]),
            default_mode: None,
        }),
        ..Volume::default()
    }
}

#[cfg(test)]
mod tests;
