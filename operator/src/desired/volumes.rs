//! The volumes of the queue: the bot's token, and its credentials for the API server.

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, KeyToPath, ProjectedVolumeSource, SecretVolumeSource,
    ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};

use crate::api::{GatewayQueueSpec, TokenSecretRef};

/// The file of the bot's token, in the queue's container.
pub(super) const TOKEN_FILE: &str = "/var/run/secrets/gatewayqueue.dev/token";
const TOKEN_DIRECTORY: &str = "/var/run/secrets/gatewayqueue.dev";
const TOKEN: &str = "token";

/// The directory in which every Kubernetes client expects its credentials.
const ACCOUNT_DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const ACCOUNT: &str = "service-account";

/// The volumes of the pod.
pub(super) fn volumes(spec: &GatewayQueueSpec) -> Vec<Volume> {
    let token = spec.token_secret_ref.as_ref().map(token_volume);
    [account_volume()].into_iter().chain(token).collect()
}

/// The mounts of the container.
pub(super) fn mounts(spec: &GatewayQueueSpec) -> Vec<VolumeMount> {
    let mount = |name: &str, directory: &str| VolumeMount {
        name: name.to_owned(),
        mount_path: directory.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    let token = spec.token_secret_ref.as_ref();
    [mount(ACCOUNT, ACCOUNT_DIRECTORY)]
        .into_iter()
        .chain(token.map(|_| mount(TOKEN, TOKEN_DIRECTORY)))
        .collect()
}

/// The token of the service account, which the kubelet renews, and the CA certificates of the API
/// server: what Kubernetes mounts by default, without what the queue does not read.
fn account_volume() -> Volume {
    let token = VolumeProjection {
        service_account_token: Some(ServiceAccountTokenProjection {
            path: "token".to_owned(),
            expiration_seconds: Some(3600),
            audience: None,
        }),
        ..VolumeProjection::default()
    };
    let certificates = VolumeProjection {
        config_map: Some(ConfigMapProjection {
            // Kubernetes creates it in each namespace.
            name: "kube-root-ca.crt".to_owned(),
            items: Some(vec![KeyToPath {
                key: "ca.crt".to_owned(),
                path: "ca.crt".to_owned(),
                mode: None,
            }]),
            optional: None,
        }),
        ..VolumeProjection::default()
    };
    Volume {
        name: ACCOUNT.to_owned(),
        projected: Some(ProjectedVolumeSource {
            sources: Some(vec![token, certificates]),
            default_mode: None,
        }),
        ..Volume::default()
    }
}

/// The token as a file, so that a change takes effect without a restart. It is optional: with a
/// required volume, a missing Secret would block the pod with the reason only in an event, while
/// the queue itself can report it.
fn token_volume(token: &TokenSecretRef) -> Volume {
    Volume {
        name: TOKEN.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(token.name.clone()),
            optional: Some(true),
            items: Some(vec![KeyToPath {
                key: token.key.clone(),
                path: TOKEN.to_owned(),
                mode: None,
            }]),
            default_mode: None,
        }),
        ..Volume::default()
    }
}
