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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::queue;

    #[test]
    fn the_token_is_a_file_that_may_be_missing() {
        let spec = queue(json!({"tokenSecretRef": {"name": "discord", "key": "bot"}})).spec;
        let secret = volumes(&spec).remove(1).secret.unwrap();
        assert_eq!(secret.secret_name.as_deref(), Some("discord"));
        assert_eq!(secret.optional, Some(true));
        let items = secret.items.unwrap();
        assert_eq!(
            (items[0].key.as_str(), items[0].path.as_str()),
            ("bot", "token")
        );
        let mount = mounts(&spec).remove(1);
        assert_eq!(mount.mount_path, "/var/run/secrets/gatewayqueue.dev");
        assert_eq!(mount.read_only, Some(true));
        assert_eq!(TOKEN_FILE, format!("{}/{}", mount.mount_path, "token"));
    }

    #[test]
    fn without_a_token_only_the_credentials_for_the_api_server_are_mounted() {
        let spec = queue(json!({})).spec;
        let volumes = serde_json::to_value(volumes(&spec)).unwrap();
        assert_eq!(
            volumes,
            json!([{"name": "service-account", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
                {"configMap": {"name": "kube-root-ca.crt",
                               "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            ]}}])
        );
        let mounts = serde_json::to_value(mounts(&spec)).unwrap();
        let directory = "/var/run/secrets/kubernetes.io/serviceaccount";
        assert_eq!(
            mounts,
            json!([{"name": "service-account", "mountPath": directory, "readOnly": true}])
        );
    }
}
